"""Judges requests of Bedrock's Converse with AWS's own code for Python: the signature is made once more, and the body
is read and checked as the service's own description says. The answer's text is what was understood, as JSON."""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.validate import ParamValidator

PORT, ACCESS_KEY_ID, SECRET, REGION = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
CONVERSE = botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape


def read(shape, value, where):
    """What botocore would have been given to send this."""
    kind = shape.type_name
    if kind == "structure" and not shape.is_document_type:
        unknown = sorted(set(value) - set(shape.members))
        if unknown:
            raise ValueError(f"{where} has no {unknown}")
        return {name: read(shape.members[name], item, f"{where}.{name}") for name, item in value.items()}
    if kind == "list":
        return [read(shape.member, item, f"{where}[]") for item in value]
    if kind == "blob":
        return base64.b64decode(value, validate=True)
    return value


def signature(handler, body):
    """What it would be if botocore had signed with this key."""
    scheme, rest = handler.headers["authorization"].split(" ", 1)
    fields = dict(field.strip().split("=", 1) for field in rest.split(","))
    signed = fields["SignedHeaders"].split(";")
    date = handler.headers["x-amz-date"]
    scope = f"{ACCESS_KEY_ID}/{date[:8]}/{REGION}/bedrock/aws4_request"
    if scheme != "AWS4-HMAC-SHA256" or fields["Credential"] != scope or not {"host", "x-amz-date"} <= set(signed):
        raise PermissionError("it is signed for something else")
    url = f"http://{handler.headers['host']}{handler.path}"
    headers = {name: handler.headers[name] for name in signed}
    request = AWSRequest(method="POST", url=url, headers=headers, data=body)
    request.context["timestamp"] = date
    auth = SigV4Auth(Credentials(ACCESS_KEY_ID, SECRET), "bedrock", REGION)
    made = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    if made != fields["Signature"]:
        raise PermissionError("The request signature we calculated does not match the signature you provided.")


class Judge(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say(200, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            signature(self, body)
            _, model, model_id, operation = self.path.split("/")
            if (model, operation) != ("model", "converse"):
                raise ValueError("there is no such operation")
            asked = read(CONVERSE, {**json.loads(body), "modelId": unquote(model_id)}, "the request")
            report = ParamValidator().validate(asked, CONVERSE)
            if report.has_errors():
                raise ValueError(report.generate_report())
        except PermissionError as error:
            return self.say(403, {"message": str(error)})
        except ValueError as error:
            return self.say(400, {"message": str(error)})
        understood = json.dumps(asked, default=lambda data: data.hex())
        message = {"role": "assistant", "content": [{"text": understood}]}
        usage = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
        self.say(200, {"output": {"message": message}, "stopReason": "end_turn", "usage": usage})

    def say(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("127.0.0.1", PORT), Judge).serve_forever()
