//! The messages of CRIU's RPC that we use: criu's `images/rpc.proto`, by field number. An unset
//! field is not sent.

use prost::Message;

/// `criu_req`.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// One of [`RequestKind`].
    #[prost(enumeration = "RequestKind", required, tag = "1")]
    pub kind: i32,
    /// The options of a dump or restore.
    #[prost(message, optional, tag = "2")]
    pub options: Option<Options>,
    /// The answer to a notice.
    #[prost(bool, tag = "3")]
    pub notify_success: bool,
    /// Features to query.
    #[prost(message, optional, tag = "5")]
    pub features: Option<Features>,
}

/// `criu_resp`.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// As in the request, or [`RequestKind::Notify`].
    #[prost(enumeration = "RequestKind", required, tag = "1")]
    pub kind: i32,
    /// Whether the request succeeded.
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    /// After a restore.
    #[prost(message, optional, tag = "4")]
    pub restored: Option<Restored>,
    /// A notice that waits for an answer.
    #[prost(message, optional, tag = "5")]
    pub notice: Option<Notice>,
    /// The errno.
    #[prost(int32, tag = "7")]
    pub errno: i32,
    /// The supported features.
    #[prost(message, optional, tag = "8")]
    pub features: Option<Features>,
    /// The first error's text.
    #[prost(string, tag = "9")]
    pub message: String,
    /// The answer to [`RequestKind::Version`].
    #[prost(message, optional, tag = "10")]
    pub version: Option<Version>,
}

/// `criu_req_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum RequestKind {
    /// Sent by criu if it did not understand the request.
    Empty = 0,
    /// Write images.
    Dump = 1,
    /// Create processes from images.
    Restore = 2,
    /// Write memory only; the processes continue.
    PreDump = 4,
    /// criu reports its progress, and waits for an answer.
    Notify = 6,
    /// Query the features of criu and the kernel.
    FeatureCheck = 9,
    /// Query criu's version.
    Version = 10,
}

/// `criu_opts`. Descriptors are numbers in our own process, except those of [`Inherit`], which are
/// numbers in criu's.
#[derive(Clone, PartialEq, Message)]
pub struct Options {
    /// The directory of the images.
    #[prost(int32, required, tag = "1")]
    pub images_dir_fd: i32,
    /// The first process of the tree to dump.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// The processes continue after the dump.
    #[prost(bool, tag = "3")]
    pub leave_running: bool,
    /// Unix sockets with a peer outside.
    #[prost(bool, tag = "4")]
    pub ext_unix_sk: bool,
    /// Open TCP connections.
    #[prost(bool, tag = "5")]
    pub tcp_established: bool,
    /// A device may be reached by a path other than the process's.
    #[prost(bool, tag = "6")]
    pub evasive_devices: bool,
    /// Session and terminal of a process outside.
    #[prost(bool, tag = "7")]
    pub shell_job: bool,
    /// Locks on files.
    #[prost(bool, tag = "8")]
    pub file_locks: bool,
    /// 0 (nothing) to 4 (everything).
    #[prost(int32, tag = "9")]
    pub log_level: i32,
    /// A name in the work directory.
    #[prost(string, tag = "10")]
    pub log_file: String,
    /// The destination of pages, instead of the images.
    #[prost(message, optional, tag = "11")]
    pub page_server: Option<PageServer>,
    /// Whether notices are sent.
    #[prost(bool, tag = "12")]
    pub notify_scripts: bool,
    /// The mount that becomes the root of restored processes.
    #[prost(string, tag = "13")]
    pub root: String,
    /// An earlier dump, relative to the images.
    #[prost(string, tag = "14")]
    pub parent_img: String,
    /// Changes of pages are tracked, for the next dump.
    #[prost(bool, tag = "15")]
    pub track_mem: bool,
    /// Pages that this dump replaces are freed in earlier dumps; during a restore, pages that were
    /// read.
    #[prost(bool, tag = "16")]
    pub auto_dedup: bool,
    /// The directory of logs and sockets.
    #[prost(int32, tag = "17")]
    pub work_dir_fd: i32,
    /// Deleted files get a name.
    #[prost(bool, tag = "18")]
    pub link_remap: bool,
    /// Whether cgroups are restored at all.
    #[prost(bool, tag = "24")]
    pub manage_cgroups: bool,
    /// New roots for the dumped cgroups.
    #[prost(message, repeated, tag = "25")]
    pub cg_root: Vec<CgroupRoot>,
    /// Restored processes become our children.
    #[prost(bool, tag = "26")]
    pub rst_sibling: bool,
    /// Descriptors that replace external resources.
    #[prost(message, repeated, tag = "27")]
    pub inherit_fd: Vec<Inherit>,
    /// One of [`CgroupMode`].
    #[prost(enumeration = "CgroupMode", optional, tag = "34")]
    pub manage_cgroups_mode: Option<i32>,
    /// External resources, `TYPE[ID]:NAME`.
    #[prost(string, repeated, tag = "37")]
    pub external: Vec<String>,
    /// CLONE_NEW… of namespaces whose contents are not saved.
    #[prost(uint32, tag = "38")]
    pub empty_ns: u32,
    /// Namespaces that restored processes join.
    #[prost(message, repeated, tag = "39")]
    pub join_ns: Vec<JoinNamespace>,
    /// The cgroup that is frozen during the dump.
    #[prost(string, tag = "44")]
    pub freeze_cgroup: String,
    /// Half-open TCP connections are left out.
    #[prost(bool, tag = "46")]
    pub tcp_skip_in_flight: bool,
    /// Pages are fetched on demand.
    #[prost(bool, tag = "48")]
    pub lazy_pages: bool,
    /// Receives a zero byte when the page server is ready.
    #[prost(int32, optional, tag = "49")]
    pub status_fd: Option<i32>,
    /// Masters of terminals that no process inside has open are sent with a notice.
    #[prost(bool, tag = "50")]
    pub orphan_pts_master: bool,
    /// Options that override these.
    #[prost(string, tag = "51")]
    pub config_file: String,
    /// Dumped TCP connections are restored as closed ones.
    #[prost(bool, tag = "52")]
    pub tcp_close: bool,
    /// `apparmor:PROFILE` or `selinux:LABEL` that replaces the dumped one.
    #[prost(string, tag = "53")]
    pub lsm_profile: String,
    /// SELinux context that replaces that of dumped mounts.
    #[prost(string, tag = "63")]
    pub lsm_mount_context: String,
}

/// `criu_page_server_info`.
#[derive(Clone, PartialEq, Message)]
pub struct PageServer {
    /// Address without a port.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Port.
    #[prost(int32, tag = "2")]
    pub port: i32,
}

/// `cgroup_root`.
#[derive(Clone, PartialEq, Message)]
pub struct CgroupRoot {
    /// A cgroup v1 controller, `name=…`, or empty for v2.
    #[prost(string, required, tag = "1")]
    pub controller: String,
    /// Path below the hierarchy's mount.
    #[prost(string, required, tag = "2")]
    pub path: String,
}

/// `inherit_fd`.
#[derive(Clone, PartialEq, Message)]
pub struct Inherit {
    /// Its name in the images.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Number in criu's process.
    #[prost(int32, required, tag = "2")]
    pub fd: i32,
}

/// `join_namespace`.
#[derive(Clone, PartialEq, Message)]
pub struct JoinNamespace {
    /// `ipc`, `uts`, …
    #[prost(string, required, tag = "1")]
    pub kind: String,
    /// A namespace file.
    #[prost(string, required, tag = "2")]
    pub file: String,
}

/// `criu_cg_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum CgroupMode {
    /// Cgroups are neither dumped nor restored.
    Ignore = 0,
    /// Properties of the cgroups that the restore creates.
    Soft = 3,
    /// All properties.
    Full = 4,
    /// None of the cgroups may exist before.
    Strict = 5,
}

/// `criu_features`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Features {
    /// Whether changes to memory can be tracked.
    #[prost(bool, optional, tag = "1")]
    pub mem_track: Option<bool>,
    /// Whether pages can be fetched on demand.
    #[prost(bool, optional, tag = "2")]
    pub lazy_pages: Option<bool>,
}

/// `criu_restore_resp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Restored {
    /// The first restored process.
    #[prost(int32, required, tag = "1")]
    pub pid: i32,
}

/// `criu_notify`.
#[derive(Clone, PartialEq, Message)]
pub struct Notice {
    /// Name of the event.
    #[prost(string, tag = "1")]
    pub script: String,
    /// The first process, once it exists.
    #[prost(int32, tag = "2")]
    pub pid: i32,
}

/// `criu_version`.
#[derive(Clone, PartialEq, Message)]
pub struct Version {
    /// 4 of 4.1.2.
    #[prost(int32, required, tag = "1")]
    pub major: i32,
    /// 1 of 4.1.2.
    #[prost(int32, required, tag = "2")]
    pub minor: i32,
    /// 2 of 4.1.2.
    #[prost(int32, tag = "4")]
    pub sublevel: i32,
}
