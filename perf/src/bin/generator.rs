//! `generator`: drives a device under test over two memif links, checks every packet, prints one line of JSON.
//!
//! `perf/run` starts it; see there and `perf/README.md` for what its numbers mean.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use algate_perf::generator::dpdk::Environment;
use algate_perf::generator::flow::Treatment;
use algate_perf::generator::link::Link;
use algate_perf::generator::run::{Generator, Plan};

fn main() -> ExitCode {
    let result = Options::read(std::env::args().skip(1)).and_then(|options| run(&options));
    match result {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("generator: {sentence}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    internal: String,
    external: String,
    core: String,
    hugepages: bool,
    plan: Plan,
}

impl Options {
    /// `--KEY VALUE` pairs.
    fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            internal: String::new(),
            external: String::new(),
            core: "0".to_owned(),
            hugepages: false,
            plan: Plan {
                treatment: Treatment::Nat,
                flows: 1000,
                bytes: 64,
                window: 768,
                warm_up: Duration::from_secs(1),
                duration: Duration::from_secs(3),
                pool: (Ipv4Addr::new(198, 19, 0, 0).into(), Ipv4Addr::new(198, 19, 0, 255).into()),
            },
        };
        let mut words = words;
        while let Some(key) = words.next() {
            let value = words.next().ok_or_else(|| format!("{key} has no value"))?;
            let wrong = || format!("{key}: \"{value}\" is not what it takes");
            let plan = &mut options.plan;
            let seconds = || value.parse().map(Duration::from_secs_f64).map_err(|_| wrong());
            match key.as_str() {
                "--internal" => options.internal = value,
                "--external" => options.external = value,
                "--core" => options.core = value,
                "--hugepages" => options.hugepages = value == "yes",
                "--flows" => plan.flows = value.parse().map_err(|_| wrong())?,
                "--bytes" => plan.bytes = value.parse().ok().filter(is_length).ok_or_else(wrong)?,
                "--window" => plan.window = value.parse().map_err(|_| wrong())?,
                "--warm-up" => plan.warm_up = seconds()?,
                "--seconds" => plan.duration = seconds()?,
                "--treatment" => {
                    plan.treatment = match value.as_str() {
                        "nat" => Treatment::Nat,
                        "forward" => Treatment::Forward,
                        _ => return Err(wrong()),
                    }
                }
                _ => return Err(format!("{key} is no option; see perf/run")),
            }
        }
        Ok(options)
    }

    fn eal_arguments(&self) -> Vec<String> {
        let vdev = |number: u8, socket: &str| {
            format!(
                "--vdev=net_memif{number},role=client,id=0,socket={socket},socket-abstract=no,zero-copy=yes,\
                 rsize={RING_LOG2}"
            )
        };
        let mut arguments: Vec<String> = [
            "generator",
            "-l",
            &self.core,
            "--no-pci",
            "--no-telemetry",
            "--single-file-segments",
            "--log-level=*:warning",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--file-prefix=algate-generator.{}", std::process::id()));
        // In hugepages its memory is files, which zero copy shares by name; `perf/run` removes them.
        if !self.hugepages {
            arguments.extend(["--no-huge", "-m", "256"].map(str::to_owned));
        }
        arguments.push(vdev(0, &self.internal));
        arguments.push(vdev(1, &self.external));
        arguments
    }
}

fn run(options: &Options) -> Result<String, String> {
    let environment = Environment::start(&options.eal_arguments(), PACKETS, options.plan.bytes)?;
    let link = |port: &str, number, address: [u8; 4], device: [u8; 4]| {
        let mac = [2, 0, 0, 0, 1, number];
        Ok::<_, String>(Link::new(
            environment.open(port, 1 << RING_LOG2)?,
            mac,
            address.into(),
            device.into(),
        ))
    };
    let mut internal = link("net_memif0", 0, [10, 0, 0, 2], [10, 0, 0, 1])?;
    let mut external = link("net_memif1", 1, [198, 18, 0, 2], [198, 18, 0, 1])?;
    internal.wait_for_link(PATIENCE)?;
    external.wait_for_link(PATIENCE)?;
    if options.plan.treatment == Treatment::Nat {
        internal.introduce(&environment)?;
        external.introduce(&environment)?;
    }
    let report = Generator::new(&environment, internal, external, options.plan).run()?;
    Ok(report.to_json())
}

/// From a frame that holds the name of its flow to the longest untagged one.
fn is_length(bytes: &usize) -> bool {
    (64..=1514).contains(bytes)
}

const PACKETS: u32 = 16_384;
const RING_LOG2: u16 = 10;
const PATIENCE: Duration = Duration::from_secs(10);
