//! Turns the options of `update` into limits.

use std::io::Read as _;
use std::path::Path;

use super::args::UpdateArgs;
use crate::container::{self, request};
use crate::error::{Doing, Error, Kind, Result};
use crate::spec::{self, BlockIo, Cpu, Memory, Pids, Resources};

/// The limits of the file, or, without one, of the options.
pub(crate) fn request(args: &UpdateArgs) -> Result<request::Update> {
    let named = named(args);
    let resources = match &args.resources {
        None => named,
        Some(file) => {
            if named != Resources::default() {
                tracing::warn!("--resources names all limits, so the options for single ones are ignored");
            }
            read(file)?
        }
    };
    let line = |schema: &Option<String>| schema.clone().unwrap_or_default();
    Ok(request::Update {
        resources,
        l3_cache_schema: line(&args.l3_cache_schema),
        mem_bw_schema: line(&args.mem_bw_schema),
    })
}

fn read(file: &Path) -> Result<Resources> {
    let (name, text) = if file == Path::new("-") {
        let mut text = Vec::new();
        ("standard input".to_owned(), std::io::stdin().read_to_end(&mut text).map(|_| text))
    } else {
        (file.display().to_string(), std::fs::read(file))
    };
    let text = text.doing(|| format!("read {name}"))?;
    let resources = spec::parse_resources(&text)
        .map_err(|fault| Error::new(Kind::Invalid, format!("{name}: {fault}")))?;
    container::warn_of_members::<Resources>(&name, &text);
    Ok(resources)
}

/// The limits of single options; a group is absent if none of its options is given.
fn named(args: &UpdateArgs) -> Resources {
    let list = |list: &Option<String>| list.clone().unwrap_or_default();
    let memory = Memory {
        limit: args.memory,
        reservation: args.memory_reservation,
        swap: args.memory_swap,
        kernel: args.kernel_memory,
        kernel_tcp: args.kernel_memory_tcp,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: args.cpu_share,
        quota: args.cpu_quota,
        burst: args.cpu_burst,
        period: args.cpu_period,
        realtime_runtime: args.cpu_rt_runtime,
        realtime_period: args.cpu_rt_period,
        cpus: list(&args.cpuset_cpus),
        mems: list(&args.cpuset_mems),
        idle: args.cpu_idle,
    };
    Resources {
        memory: Some(memory).filter(|memory| *memory != Memory::default()),
        cpu: Some(cpu).filter(|cpu| *cpu != Cpu::default()),
        pids: args.pids_limit.map(|limit| Pids { limit: Some(limit) }),
        block_io: args.blkio_weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser as _;

    fn json(line: &str) -> String {
        let cli = Cli::try_parse_from(format!("emergence-runc update {line}").split(' ')).unwrap();
        let Some(Command::Update(args)) = cli.command else { panic!("{line}") };
        serde_json::to_string(&named(&args)).unwrap()
    }

    #[test]
    fn options_to_resources() {
        let table = [
            ("x", "{}"),
            ("--memory 64m --memory-swap=-1 x", r#"{"memory":{"limit":67108864,"swap":-1}}"#),
            ("--memory -1 x", r#"{"memory":{"limit":-1}}"#),
            ("--memory-reservation 1k x", r#"{"memory":{"reservation":1024}}"#),
            ("--kernel-memory 1 --kernel-memory-tcp 2 x", r#"{"memory":{"kernel":1,"kernelTCP":2}}"#),
            (
                "--cpu-share 2 --cpu-quota -1 --cpu-period 5 --cpu-burst 0 --cpu-idle 1 x",
                r#"{"cpu":{"shares":2,"quota":-1,"burst":0,"period":5,"idle":1}}"#,
            ),
            (
                "--cpu-rt-period 1 --cpu-rt-runtime -1 --cpuset-cpus 0-1 --cpuset-mems 0 x",
                r#"{"cpu":{"realtimeRuntime":-1,"realtimePeriod":1,"cpus":"0-1","mems":"0"}}"#,
            ),
            ("--pids-limit 0 --blkio-weight 10 x", r#"{"pids":{"limit":0},"blockIO":{"weight":10}}"#),
        ];
        for (line, want) in table {
            assert_eq!(json(line), want, "{line}");
        }
    }
}
