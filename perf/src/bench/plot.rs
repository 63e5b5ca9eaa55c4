//! Draws results as SVG: throughput against flows, and latency curves.
//!
//! Of a device and work only the runs on a whole core are drawn, where there are any.
//!
//! By hand: what is needed of a plotting library is two charts of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::bench::goals::median;
use crate::bench::session::{Outcome, Run};
use crate::bench::work::count_name;

/// Both charts, one above the other, under `heads`, a line each; a chart without data is left out. `None` when there is nothing to draw.
#[must_use]
pub fn draw(heads: &[&str], runs: &[Run]) -> Option<String> {
    let charts: Vec<Chart> =
        [throughput(runs), latency(runs)].into_iter().filter(|chart| !chart.lines.is_empty()).collect();
    if charts.is_empty() {
        return None;
    }
    let head_height = heads.len() as f64 * 18.0 + 14.0;
    let height = charts.len() as f64 * CHART_HEIGHT + head_height;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, head) in heads.iter().enumerate() {
        let (y, size) = (24.0 + at as f64 * 18.0, if at == 0 { 14 } else { 11 });
        let head = head.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"{y}\" font-size=\"{size}\">{head}</text>");
    }
    for (at, chart) in charts.iter().enumerate() {
        chart.draw(&mut svg, head_height + at as f64 * CHART_HEIGHT);
    }
    svg += "</svg>\n";
    Some(svg)
}

/// What `pick` says of the runs of each device at each place: of those on a whole core, or of all where there is none.
fn gather<P: Ord + Copy>(
    runs: &[Run],
    pick: impl Fn(&Run) -> Vec<(P, f64)>,
) -> BTreeMap<(&'static str, P), Vec<f64>> {
    let mut values: BTreeMap<_, [Vec<f64>; 2]> = BTreeMap::new();
    for run in runs {
        for (place, value) in pick(run) {
            let [shared, whole] = values.entry((run.device.name(), place)).or_default();
            if run.is_core_whole() { whole.push(value) } else { shared.push(value) }
        }
    }
    let counted = |[shared, whole]: [Vec<f64>; 2]| if whole.is_empty() { shared } else { whole };
    values.into_iter().map(|(key, values)| (key, counted(values))).collect()
}

/// A chart of lines; both axes are already as they are drawn, logarithms where that is wanted.
struct Chart {
    title: &'static str,
    x_name: &'static str,
    y_name: &'static str,
    x_ticks: Vec<(f64, String)>,
    y_ticks: Vec<(f64, String)>,
    /// Name, and points with their smallest and largest value.
    lines: BTreeMap<&'static str, Vec<Point>>,
}

/// A point, and how far the rounds lie apart there.
#[derive(Debug, Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
    low: f64,
    high: f64,
}

impl Point {
    fn of(x: f64, values: Vec<f64>) -> Option<Self> {
        let low = values.iter().copied().fold(f64::MAX, f64::min);
        let high = values.iter().copied().fold(f64::MIN, f64::max);
        Some(Self { x, y: median(values)?, low, high })
    }
}

/// Mpps of 64-byte UDP against the number of flows, one line for each device measured at several.
fn throughput(runs: &[Run]) -> Chart {
    let values = gather(runs, |run| match &run.outcome {
        Outcome::Rate { rate, .. } if run.work == format!("64 B, {}", count_name(run.flows)) => {
            vec![(run.flows, rate.mpps)]
        }
        _ => Vec::new(),
    });
    let flows: BTreeSet<u32> = values.keys().map(|(_, flows)| *flows).collect();
    let x_ticks = flows.into_iter().map(|flows| (f64::from(flows).log2(), count_name(flows))).collect();
    let mut lines: BTreeMap<_, Vec<Point>> = BTreeMap::new();
    for ((device, flows), mpps) in values {
        lines.entry(device).or_default().extend(Point::of(f64::from(flows).log2(), mpps));
    }
    let most = lines.values().flatten().map(|point| point.high).fold(0.0, f64::max);
    let step = (most / 6.0).ceil().max(1.0);
    let y_ticks =
        (0..=(most / step).ceil() as u32).map(|at| f64::from(at) * step).map(|y| (y, format!("{y}")));
    Chart {
        title: "Packets through the device, both directions together, 64 B UDP, one core",
        x_name: "flows (sessions)",
        y_name: "million packets per second",
        x_ticks,
        y_ticks: y_ticks.collect(),
        lines,
    }
}

/// Microseconds through the device against the share of packets, drawn by its distance from all.
fn latency(runs: &[Run]) -> Chart {
    let values = gather(runs, |run| {
        let Outcome::Latency(paced) = &run.outcome else { return Vec::new() };
        let point = |(share, micros): &(f64, f64)| {
            let place = if *share < 1.0 { -(1.0 - share).log10() } else { 5.0 };
            ((place * 1000.0) as u64, micros.max(0.1).log10())
        };
        paced.latency.iter().flat_map(|latency| latency.curve.iter().map(point)).collect()
    });
    let mut lines: BTreeMap<_, Vec<Point>> = BTreeMap::new();
    for ((device, place), micros) in values {
        lines.entry(device).or_default().extend(Point::of(place as f64 / 1000.0, micros));
    }
    let x_ticks = [
        (0.0, "0"),
        (0.301, "p50"),
        (1.0, "p90"),
        (2.0, "p99"),
        (3.0, "p99.9"),
        (4.0, "p99.99"),
        (5.0, "max"),
    ];
    let all = || lines.values().flatten();
    let low = all().map(|point| point.low).fold(f64::MAX, f64::min).floor() as i32;
    let high = all().map(|point| point.high).fold(f64::MIN, f64::max).ceil() as i32;
    let y_ticks = (low..=high).map(|power| (f64::from(power), format!("{}", 10_f64.powi(power))));
    let y_ticks = if lines.is_empty() { Vec::new() } else { y_ticks.collect() };
    Chart {
        title: "Time through the device at half of the NAT's highest rate, 64 B UDP",
        x_name: "share of packets that did not take longer",
        y_name: "microseconds",
        x_ticks: x_ticks.map(|(x, name)| (x, name.to_owned())).into(),
        y_ticks,
        lines,
    }
}

impl Chart {
    fn draw(&self, svg: &mut String, top: f64) {
        let ends = |ticks: &[(f64, String)]| {
            let places = || ticks.iter().map(|(place, _)| *place);
            let (low, high) = (places().fold(f64::MAX, f64::min), places().fold(f64::MIN, f64::max));
            (low, (high - low).max(1e-9))
        };
        let ((x0, x_span), (y0, y_span)) = (ends(&self.x_ticks), ends(&self.y_ticks));
        let x_at = |x: f64| LEFT + (x - x0) / x_span * PLOT_WIDTH;
        let y_at = |y: f64| top + 30.0 + PLOT_HEIGHT - (y - y0) / y_span * PLOT_HEIGHT;
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>",
            top + 18.0,
            self.title
        );
        for (y, name) in &self.y_ticks {
            let (y, right) = (y_at(*y), LEFT + PLOT_WIDTH);
            let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>");
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        let bottom = top + 30.0 + PLOT_HEIGHT;
        let (x, y) = (LEFT + PLOT_WIDTH / 2.0, top + 30.0 + PLOT_HEIGHT / 2.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate({},{y}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            bottom + 38.0,
            self.x_name,
            MARGIN + 8.0,
            self.y_name
        );
        for (x, name) in &self.x_ticks {
            let x = x_at(*x);
            let _ = writeln!(svg, "<path d=\"M{x:.1} {bottom}v5\" stroke=\"black\"/>");
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                bottom + 18.0
            );
        }
        for (at, ((name, points), color)) in self.lines.iter().zip(COLORS.iter().cycle()).enumerate() {
            let path = points.iter().map(|point| format!("{:.1},{:.1}", x_at(point.x), y_at(point.y)));
            let path: Vec<String> = path.collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for Point { x, y, low, high } in points {
                let (x, y, low, high) = (x_at(*x), y_at(*y), y_at(*low), y_at(*high));
                let _ = writeln!(svg, "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{color}\"/>");
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
            }
            let (x, y) = (LEFT + PLOT_WIDTH + 15.0, top + 45.0 + at as f64 * 18.0);
            let _ = writeln!(svg, "<path d=\"M{x} {}h18\" stroke=\"{color}\" stroke-width=\"2\"/>", y - 4.0);
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\">{name}</text>", x + 24.0);
        }
    }
}

const WIDTH: f64 = 820.0;
const CHART_HEIGHT: f64 = 345.0;
const MARGIN: f64 = 16.0;
const LEFT: f64 = 76.0;
const PLOT_WIDTH: f64 = 570.0;
const PLOT_HEIGHT: f64 = 250.0;
const COLORS: [&str; 7] = ["#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#b8860b", "#444444", "#008b8b"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::device::Device;
    use crate::generator::latency::Latency;
    use crate::generator::paced::{Paced, Slices};

    #[test]
    fn a_curve_goes_up_and_stays_inside() {
        let latency = Latency {
            p50: 10.0,
            p99: 20.0,
            p999: 40.0,
            max: 100.0,
            curve: vec![(0.5, 10.0), (0.99, 20.0), (1.0, 100.0)],
        };
        let paced = Paced {
            offered_mpps: 1.0,
            packets: 1,
            lost: 0,
            bad: 0,
            latency: Some(latency),
            slices: Slices::default(),
        };
        let run = Run {
            round: 1,
            work: "64 B, 1 k, latency".to_owned(),
            device: Device::Nat,
            flows: 1000,
            adds_per_cycle: [4.0; 2],
            hop_nanos: [25.0; 2],
            outcome: Outcome::Latency(paced),
        };
        let svg = draw(&["algate, by <date>"], &[run]).unwrap();
        assert!(svg.contains("points=\"110.3,312.0 303.9,236.7 646.0,62.0\""), "{svg}");
        assert!(svg.contains(">algate, by &lt;date></text>"), "{svg}");
        assert_eq!(draw(&["title"], &[]), None);
    }
}
