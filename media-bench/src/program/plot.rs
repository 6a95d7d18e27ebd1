//! Charts as SVG text. Read [`Chart`].

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;

/// Colours by number of the series, told apart by the colour-blind too (Okabe and Ito, then Tol).
const COLOURS: [&str; 12] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f",
    "#882255", "#44aa99", "#999933", "#332288",
];

/// Steps of a linear axis at most.
const STEPS_MAX: f64 = 6.0;

/// Above that a logarithmic axis shows powers of ten only.
const LOGARITHMIC_TICKS_MAX: usize = 9;

/// What one direction of a chart means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    /// Each step multiplies. Values must be above 0.
    pub(crate) logarithmic: bool,
}

/// Points that belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Sorted by x if they are joined.
    pub(crate) points: Vec<(f64, f64)>,
    /// Draw a line from point to point.
    pub(crate) is_joined: bool,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

impl Chart {
    /// The chart as an `<svg>` element; empty if it has no points.
    pub(crate) fn to_svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let Some(x) = Scale::of(points().map(|point| point.0), &self.x, LEFT, WIDTH - RIGHT) else {
            return String::new();
        };
        let Some(y) = Scale::of(points().map(|point| point.1), &self.y, HEIGHT - BOTTOM, TOP)
        else {
            return String::new();
        };
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{0}</title>\
             <text class=\"title\" x=\"{LEFT}\" y=\"18\">{0}</text>",
            escape(self.title)
        );
        self.draw_axes(&mut svg, &x, &y);
        for (number, series) in self.series.iter().enumerate() {
            draw_series(&mut svg, number, series, &x, &y);
        }
        svg += "</svg>\n";
        svg
    }

    fn draw_axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in &x.ticks {
            let at = x.place(*tick);
            push(
                svg,
                format_args!(
                    "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                     <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    bottom + 16.0,
                    short(*tick)
                ),
            );
        }
        for tick in &y.ticks {
            let at = y.place(*tick);
            push(
                svg,
                format_args!(
                    "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    LEFT - 6.0,
                    at + 4.0,
                    short(*tick)
                ),
            );
        }
        let middle = (TOP + bottom) / 2.0;
        push(
            svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
                 <text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
                (LEFT + right) / 2.0,
                HEIGHT - 8.0,
                escape(self.x.label),
                escape(self.y.label)
            ),
        );
    }
}

fn draw_series(svg: &mut String, number: usize, series: &Series, x: &Scale, y: &Scale) {
    let colour = COLOURS[number % COLOURS.len()];
    let places: Vec<_> = series
        .points
        .iter()
        .map(|point| (x.place(point.0), y.place(point.1)))
        .collect();
    if series.is_joined {
        let path: Vec<_> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        push(
            svg,
            format_args!(
                "<polyline points=\"{}\" stroke=\"{colour}\"/>",
                path.join(" ")
            ),
        );
    }
    for (place, point) in places.iter().zip(&series.points) {
        push(
            svg,
            format_args!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{}: {}, {}</title></circle>",
                place.0,
                place.1,
                escape(&series.name),
                short(point.0),
                short(point.1)
            ),
        );
    }
    let row = TOP + 14.0 * number as f64 + 6.0;
    push(
        svg,
        format_args!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT + 16.0,
            row - 4.0,
            WIDTH - RIGHT + 26.0,
            row,
            escape(&series.name)
        ),
    );
}

fn push(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a String takes everything");
}

/// From values to places.
struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Scale {
    /// `None` without values that can be shown.
    fn of(values: impl Iterator<Item = f64>, axis: &Axis, from: f64, to: f64) -> Option<Self> {
        let usable = values.filter(|value| {
            value.is_finite() && (*value > 0.0 || !axis.logarithmic && *value >= 0.0)
        });
        let (low, high) = usable.fold((f64::INFINITY, 0f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            return None;
        }
        let ticks = if axis.logarithmic {
            logarithmic_ticks(low, high)
        } else {
            linear_ticks(high)
        };
        let (low, high) = (*ticks.first()?, *ticks.last()?);
        Some(Self {
            logarithmic: axis.logarithmic,
            low,
            high,
            from,
            to,
            ticks: labelled(ticks, axis.logarithmic),
        })
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }
}

/// From 0 to the first step above `high`, in steps of 1, 2 or 5 times a power of ten.
fn linear_ticks(high: f64) -> Vec<f64> {
    let high = if high > 0.0 { high } else { 1.0 };
    let rough = high / STEPS_MAX;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let count = (high / step).ceil() as u32;
    (0..=count).map(|index| f64::from(index) * step).collect()
}

/// The powers of ten, times 1, 2 and 5, from the one below `low` to the one above `high`.
fn logarithmic_ticks(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    let all: Vec<f64> = (first..=last)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power)))
        .collect();
    let begin = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let end = all.iter().position(|tick| *tick >= high);
    let end = end.unwrap_or(all.len() - 1).max(begin + 1);
    all[begin..=end.min(all.len() - 1)].to_vec()
}

/// Those that have room for their numbers.
fn labelled(mut ticks: Vec<f64>, logarithmic: bool) -> Vec<f64> {
    if logarithmic && ticks.len() > LOGARITHMIC_TICKS_MAX {
        ticks.retain(|tick| tick.log10().fract() == 0.0);
    }
    ticks
}

/// A number in at most a few characters.
fn short(value: f64) -> String {
    match value {
        1_000_000.0.. => format!("{}M", trimmed(value / 1_000_000.0)),
        10_000.0.. => format!("{}k", trimmed(value / 1_000.0)),
        _ => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text that is safe in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_steps_are_round() {
        assert_eq!(linear_ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_ticks(1_234.0).last(), Some(&1_500.0));
        assert_eq!(linear_ticks(0.0).first(), Some(&0.0));
        assert!(linear_ticks(0.0).len() > 1);
    }

    #[test]
    fn logarithmic_steps_enclose_the_values() {
        assert_eq!(
            logarithmic_ticks(15.0, 300.0),
            [10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
        );
        assert_eq!(logarithmic_ticks(10.0, 10.0), [10.0, 20.0]);
        let many = labelled(logarithmic_ticks(20.0, 4_000_000.0), true);
        assert_eq!(many, [100.0, 1e3, 1e4, 1e5, 1e6]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (9_999.0, "9999"),
            (20_000.0, "20k"),
            (1_500_000.0, "1.5M"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    fn chart(points: Vec<(f64, f64)>, logarithmic: bool) -> String {
        let axis = |label| Axis { label, logarithmic };
        Chart {
            title: "a & b",
            x: axis("x"),
            y: axis("y"),
            series: vec![Series {
                name: "<s>".to_owned(),
                points,
                is_joined: true,
            }],
        }
        .to_svg()
    }

    #[test]
    fn every_point_lies_inside() {
        for logarithmic in [false, true] {
            let svg = chart(vec![(1.0, 5.0), (100.0, 7_000.0)], logarithmic);
            assert_eq!(svg.matches("r=\"3\"").count(), 2);
            assert!(svg.contains("a &amp; b") && svg.contains("&lt;s&gt;"));
            let places = svg.split("cx=\"").skip(1).take(2);
            for place in places {
                let x: f64 = place.split('"').next().unwrap().parse().unwrap();
                assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{x}");
            }
        }
    }

    #[test]
    fn nothing_to_show_is_no_chart() {
        assert_eq!(chart(Vec::new(), false), "");
        assert_eq!(chart(vec![(0.0, 0.0)], true), "");
    }
}
