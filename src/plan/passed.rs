//! The descriptors that the program inherits from the runtime's caller, besides the three standard
//! files.

/// Descriptors of the caller that the program inherits under the same numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The open descriptors, ascending, all above 2.
    pub descriptors: Vec<u32>,
    /// The sockets of systemd's protocol, sd_listen_fds(3); they are in `descriptors` too.
    pub listen: Option<Listen>,
}

/// Sockets passed by sd_listen_fds(3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The number of descriptors from 3 on. Some of them may not be open.
    pub count: u32,
    /// Value of LISTEN_FDNAMES, if the caller has set it.
    pub names: Option<String>,
}

/// A caller that passes nothing.
pub static NOTHING: Passed = Passed { descriptors: Vec::new(), listen: None };

impl Listen {
    /// The variables of the protocol except LISTEN_PID, which only the process itself knows.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let names = self.names.as_ref().map(|names| format!("LISTEN_FDNAMES={names}"));
        [format!("LISTEN_FDS={}", self.count)].into_iter().chain(names)
    }
}

/// Every variable of the protocol. LISTEN_PIDFDID exists since systemd 259.
pub const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"];
