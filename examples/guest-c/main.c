// Word statistics of the text on stdin, as one line of JSON on stdout:
// {"bytes":11,"lines":1,"words":3,"distinct":2,"top":[{"word":"a","count":2},{"word":"b","count":1}]}
//
// A plain WASI command: it knows nothing of Holm, and reads and writes as any program does.

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP_WORDS = 10, WORD_BYTES_MAX = 64 };

typedef struct {
  char *text;
  size_t length;
  uint32_t hash;
  uint64_t count;
} Word;

// Open addressing; the capacity is a power of two, and at most three quarters are taken.
static Word *words;
static size_t capacity, distinct;

static void *allocate(size_t count, size_t bytes) {
  void *memory = calloc(count, bytes);
  if (!memory) {
    fputs("out of memory\n", stderr);
    exit(1);
  }
  return memory;
}

static Word *find(Word *table, size_t slots, const char *text, size_t length, uint32_t hash) {
  size_t slot = hash & (slots - 1);
  while (table[slot].text && (table[slot].hash != hash || table[slot].length != length ||
                              memcmp(table[slot].text, text, length) != 0))
    slot = (slot + 1) & (slots - 1);
  return &table[slot];
}

static void grow(void) {
  size_t slots = capacity ? 2 * capacity : 1024;
  Word *table = allocate(slots, sizeof *table);
  for (size_t i = 0; i < capacity; i++)
    if (words[i].text) *find(table, slots, words[i].text, words[i].length, words[i].hash) = words[i];
  free(words);
  words = table;
  capacity = slots;
}

static void count_word(const char *text, size_t length) {
  if (4 * (distinct + 1) > 3 * capacity) grow();
  uint32_t hash = 2166136261u;  // FNV-1a
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 16777619u;
  Word *word = find(words, capacity, text, length, hash);
  if (!word->text) {
    char *copy = allocate(length, 1);
    memcpy(copy, text, length);
    *word = (Word){.text = copy, .length = length, .hash = hash};
    distinct++;
  }
  word->count++;
}

// The most frequent first; equals by the alphabet, so that the output depends on nothing but the text.
static int by_rank(const void *left, const void *right) {
  const Word *a = left, *b = right;
  if (a->count != b->count) return a->count < b->count ? 1 : -1;
  size_t shorter = a->length < b->length ? a->length : b->length;
  int order = memcmp(a->text, b->text, shorter);
  return order ? order : (a->length > b->length) - (a->length < b->length);
}

// Length of the well-formed UTF-8 character at `at`, or 0: what is printed has to be valid JSON.
static size_t utf8_length(const unsigned char *at, size_t left) {
  size_t length = at[0] < 0x80 ? 1 : at[0] < 0xC2 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : at[0] < 0xF5 ? 4 : 0;
  if (length > left) return 0;
  for (size_t i = 1; i < length; i++)
    if ((at[i] & 0xC0) != 0x80) return 0;
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  if ((at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F)) return 0;
  if ((at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F)) return 0;
  return length;
}

// From U+0080, U+2000, U+2040 and U+3000, 64 characters each: spaces, quotes, dashes, brackets. The rest beyond
// ASCII counts as letters.
static int is_punctuation(const unsigned char *at) {
  return at[0] == 0xC2 || (at[0] == 0xE2 && at[1] <= 0x81) || (at[0] == 0xE3 && at[1] == 0x80);
}

static unsigned char *read_all(size_t *length) {
  size_t room = 64 * 1024, used = 0, got;
  unsigned char *text = allocate(room, 1);
  while ((got = fread(text + used, 1, room - used, stdin)) > 0) {
    used += got;
    if (used < room) continue;
    unsigned char *more = allocate(2, room);
    memcpy(more, text, used);
    free(text);
    text = more;
    room *= 2;
  }
  if (ferror(stdin)) {
    perror("stdin");
    exit(1);
  }
  *length = used;
  return text;
}

int main(void) {
  size_t length, used = 0;
  uint64_t lines = 0, total = 0;
  unsigned char *text = read_all(&length);
  char word[WORD_BYTES_MAX];

  // A word is letters, digits, and apostrophes inside it; of a word longer than WORD_BYTES_MAX the rest is dropped.
  for (size_t at = 0, step; at <= length; at += step) {
    size_t bytes = at < length ? utf8_length(text + at, length - at) : 0;
    unsigned char c = at < length ? text[at] : '\n';
    int inside = bytes > 1 ? !is_punctuation(text + at) : bytes && (isalnum(c) || (c == '\'' && used > 0));
    step = bytes ? bytes : 1;
    if (inside) {
      if (used + bytes > WORD_BYTES_MAX) continue;
      for (size_t i = 0; i < bytes; i++) word[used++] = (char)tolower(text[at + i]);
      continue;
    }
    lines += at < length && c == '\n';
    while (used > 0 && word[used - 1] == '\'') used--;
    if (used == 0) continue;
    count_word(word, used);
    total++;
    used = 0;
  }
  if (length > 0 && text[length - 1] != '\n') lines++;

  // Close the gaps, then rank.
  size_t kept = 0;
  for (size_t i = 0; i < capacity; i++)
    if (words[i].text) words[kept++] = words[i];
  if (kept > 0) qsort(words, kept, sizeof *words, by_rank);

  printf("{\"bytes\":%zu,\"lines\":%llu,\"words\":%llu,\"distinct\":%zu,\"top\":[", length,
         (unsigned long long)lines, (unsigned long long)total, distinct);
  for (size_t i = 0; i < kept && i < TOP_WORDS; i++)
    printf("%s{\"word\":\"%.*s\",\"count\":%llu}", i ? "," : "", (int)words[i].length, words[i].text,
           (unsigned long long)words[i].count);
  puts("]}");
  return fflush(stdout) == 0 ? 0 : 1;
}
