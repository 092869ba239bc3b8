//! The options of `update`: one for each limit, with runc's names.

use std::path::PathBuf;

use clap::{Arg, Args};

use crate::cli::update::size;

// `update`.
#[derive(Args, Debug)]
#[command(mut_args = negative)]
pub struct UpdateArgs {
    /// File with the limits as JSON, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Share of block devices' time, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Length of the period for --cpu-quota, in microseconds
    #[arg(long, value_name = "TIME")]
    pub cpu_period: Option<u64>,
    /// Processor time in a period, in microseconds; -1 is no limit
    #[arg(long, value_name = "TIME")]
    pub cpu_quota: Option<i64>,
    /// Processor time saved up from former periods, in microseconds
    #[arg(long, value_name = "TIME")]
    pub cpu_burst: Option<u64>,
    /// Length of the period for --cpu-rt-runtime, in microseconds (cgroup 1)
    #[arg(long, value_name = "TIME")]
    pub cpu_rt_period: Option<u64>,
    /// Real-time processor time in a period, in microseconds (cgroup 1)
    #[arg(long, value_name = "TIME")]
    pub cpu_rt_runtime: Option<i64>,
    /// Share of processor time beside other containers; 1024 is the usual one
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// 1: processor time only when nobody else wants it; 0: as usual
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,
    /// Processors to run on, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0-1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Most memory; -1 is no limit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<i64>,
    /// Memory that is left to the container when the host is short of it
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_reservation: Option<i64>,
    /// Most memory and swap together; -1 is no limit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_swap: Option<i64>,
    /// Without effect: today's kernels have no such limit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub kernel_memory: Option<i64>,
    /// Without effect: today's kernels have no such limit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub kernel_memory_tcp: Option<i64>,
    /// Most processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER")]
    pub pids_limit: Option<i64>,
    /// Parts of the processor's cache, such as "L3:0=f;1=f0"
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Parts of the memory's bandwidth, such as "MB:0=20;1=70"
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Lets an option's value begin with `-`, so that -1 is one.
fn negative(arg: Arg) -> Arg {
    if arg.is_positional() { arg } else { arg.allow_negative_numbers(true) }
}
