//! From the options of `update` to the limits that they name.

use std::io::Read as _;
use std::path::Path;

use super::args::UpdateArgs;
use crate::container::{self, request};
use crate::error::{Doing, Error, Kind, Result};
use crate::spec::{self, BlockIo, Cpu, Memory, Pids, Resources};

/// The limits of the file, or, without one, of the options.
pub fn request(args: &UpdateArgs) -> Result<request::Update> {
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

/// What the options for single limits say; absent where none of its kind is given.
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

/// Bytes of a size as runc's users write it: a number, perhaps with a fraction, and perhaps one of k, m, g, t, p for a power
/// of 1024, with b or ib behind it; -1 is no limit.
pub fn size(text: &str) -> std::result::Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let wrong = || "not a size: write bytes, or a number with k, m, g, t or p, or -1 for no limit".to_owned();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let factor = 1024_i64.pow(power);
    let large = || "more bytes than there can be".to_owned();
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).ok_or_else(large);
    }
    if !number.contains('.') {
        return Err(if number.is_empty() { wrong() } else { large() });
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(large()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn sizes() {
        let table = [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64k", Some(65536)),
            ("64K", Some(65536)),
            ("64KiB", Some(65536)),
            ("1 mb", Some(1 << 20)),
            ("1.5g", Some(3 << 29)),
            ("2t", Some(1 << 41)),
            ("32b", Some(32)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("9007199254740992p", None),
            ("-2", None),
            ("-1k", None),
            ("", None),
            ("m", None),
            (".", None),
            ("1.2.3m", None),
            ("1x", None),
            ("1  m", None),
            ("1e3", None),
            ("٣", None),
        ];
        for (text, want) in table {
            assert_eq!(size(text).ok(), want, "{text:?}");
        }
    }

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
