//! The LiteLLM proxy with the same server behind it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// The key of its users.
pub const KEY: &str = "sk-bench";

/// It takes its time to start.
const START_MAX: Duration = Duration::from_secs(120);

pub struct Proxy {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Proxy {
    /// None where it is not installed.
    pub fn start(backend: &str, model: &str) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/venv/bin/litellm");
        if !program.exists() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("litellm.yaml");
        let text = format!(
            "model_list:\n  - {{model_name: {model}, litellm_params: {{model: openai/{model}, api_base: \"{backend}\", api_key: sk-test}}}}\n\
             litellm_settings: {{telemetry: false, num_retries: 0}}\ngeneral_settings: {{master_key: {KEY}}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["--host", "127.0.0.1", "--num_workers", "1", "--port", &port.to_string(), "--config"])
            .arg(config)
            .envs([
                ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
                ("LITELLM_TELEMETRY", "False"),
                ("DISABLE_ADMIN_UI", "True"),
            ])
            .env("LITELLM_LOG", "ERROR")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let proxy = Proxy { child, port, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < START_MAX, "the LiteLLM proxy does not start");
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(proxy)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
