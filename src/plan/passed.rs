//! What the runtime's caller passes on to the program besides the three standard files.

/// Descriptors of the caller that the program keeps under their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The open ones, ascending, all above 2.
    pub descriptors: Vec<u32>,
    /// Those that systemd's protocol describes, sd_listen_fds(3); they are in `descriptors` too.
    pub listen: Option<Listen>,
}

/// Sockets passed as sd_listen_fds(3) says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// How many numbers from 3 on. Some of them may not be open.
    pub count: u32,
    /// Value of LISTEN_FDNAMES, if the caller has set it.
    pub names: Option<String>,
}

/// A caller that passes nothing.
pub static NOTHING: Passed = Passed { descriptors: Vec::new(), listen: None };

impl Listen {
    /// The variables of the protocol but LISTEN_PID, which only the process itself knows.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let names = self.names.as_ref().map(|names| format!("LISTEN_FDNAMES={names}"));
        [format!("LISTEN_FDS={}", self.count)].into_iter().chain(names)
    }
}

/// Every variable of the protocol. LISTEN_PIDFDID exists since systemd 259.
pub const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"];
