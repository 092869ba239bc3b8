//! The options of `update`: one for each limit, with runc's names.

use std::path::PathBuf;

use clap::{Arg, Args};

use super::size::size;

// `update`.
#[derive(Args, Debug)]
#[command(mut_args = negative)]
pub(crate) struct UpdateArgs {
    /// File with the limits as JSON, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Length of the period for --cpu-quota, in microseconds
    #[arg(long, value_name = "TIME")]
    pub cpu_period: Option<u64>,
    /// CPU time per period, in microseconds; -1 is unlimited
    #[arg(long, value_name = "TIME")]
    pub cpu_quota: Option<i64>,
    /// Burst: unused CPU time carried over from earlier periods, in microseconds
    #[arg(long, value_name = "TIME")]
    pub cpu_burst: Option<u64>,
    /// Length of the period for --cpu-rt-runtime, in microseconds (cgroup v1)
    #[arg(long, value_name = "TIME")]
    pub cpu_rt_period: Option<u64>,
    /// Real-time CPU time per period, in microseconds (cgroup v1)
    #[arg(long, value_name = "TIME")]
    pub cpu_rt_runtime: Option<i64>,
    /// CPU shares relative to other containers (usually 1024)
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// 1: run only if no other cgroup needs the CPU (SCHED_IDLE); 0: normal
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,
    /// CPUs to run on, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0-1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory limit; -1 is unlimited
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<i64>,
    /// Memory reservation (soft limit)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_reservation: Option<i64>,
    /// Limit of memory plus swap; -1 is unlimited
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_swap: Option<i64>,
    /// Ignored: current kernels have no such limit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub kernel_memory: Option<i64>,
    /// Ignored: current kernels have no such limit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub kernel_memory_tcp: Option<i64>,
    /// Maximum number of processes and threads; -1 is unlimited
    #[arg(long, value_name = "NUMBER")]
    pub pids_limit: Option<i64>,
    /// Intel RDT L3 cache schema, such as "L3:0=f;1=f0"
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT memory bandwidth schema, such as "MB:0=20;1=70"
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Allows values that begin with `-`, such as -1.
fn negative(arg: Arg) -> Arg {
    if arg.is_positional() { arg } else { arg.allow_negative_numbers(true) }
}
