//! Pictures: a quantity against the size of the BAR, both axes logarithmic, a line for each placement.

use std::io;

use indicatif::HumanFloatCount;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::prelude::*;

use hugebar::leaf::Bytes;
use hugebar::plan::Placement;
use hugebar_host::bench::Step;

use super::report::{BarReport, BenchReport, SeriesReport, Spread};
use super::text;

/// Text and axes.
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const GRID: RGBColor = RGBColor(0xd0, 0xd7, 0xde);
const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// Lighter ink on dark paper, for readers who prefer that. `plotters` writes colours as attributes, which style sheets
/// override.
pub(super) const DARK: &str = "@media (prefers-color-scheme: dark) { \
    [fill=\"#1F2328\"] { fill: #e6edf3 } [stroke=\"#1F2328\"] { stroke: #e6edf3 } \
    [stroke=\"#D0D7DE\"] { stroke: #3d444d } [fill=\"#FFFFFF\"] { fill: #0d1117 } \
    [stroke=\"#1A7F37\"] { stroke: #3fb950 } [fill=\"#1A7F37\"] { fill: #3fb950 } \
    [stroke=\"#9A6700\"] { stroke: #d29922 } [fill=\"#9A6700\"] { fill: #d29922 } \
    [stroke=\"#CF222E\"] { stroke: #f85149 } [fill=\"#CF222E\"] { fill: #f85149 } }";

/// Width and height of a picture.
const SIZE: (u32, u32) = (440, 340);

/// The height of the legend.
const LEGEND: u32 = 28;

/// What is plotted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Quantity {
    Leaves,
    PageTables,
    Time(Step),
}

impl Quantity {
    pub(super) const ALL: [Self; 8] = [
        Self::Leaves,
        Self::PageTables,
        Self::Time(Step::Map),
        Self::Time(Step::Present),
        Self::Time(Step::PresentAgain),
        Self::Time(Step::DmaMap),
        Self::Time(Step::DmaUnmap),
        Self::Time(Step::Unmap),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Leaves => "Leaves",
            Self::PageTables => "Memory of page tables",
            Self::Time(Step::Map) => "Time to map",
            Self::Time(Step::Present) => "Time to make present",
            Self::Time(Step::PresentAgain) => "Time to make present again, after decode was off",
            Self::Time(Step::DmaMap) => "Time to map the whole for DMA",
            Self::Time(Step::DmaUnmap) => "Time to unmap the whole for DMA",
            Self::Time(Step::Unmap) => "Time to unmap",
        }
    }

    fn of(self, own: &SeriesReport) -> Option<Spread> {
        match self {
            Self::Leaves => own.leaves,
            Self::PageTables => own.page_tables,
            Self::Time(step) => own.times.get(step),
        }
    }

    fn label(self, number: f64) -> String {
        match self {
            Self::Leaves => HumanFloatCount(number.round()).to_string(),
            Self::PageTables => bytes(number),
            Self::Time(_) => text::time(number),
        }
    }
}

/// A power of two in bytes.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are far below 2^53"
)]
fn bytes(number: f64) -> String {
    Bytes(number.round() as u64).to_string()
}

/// The lines of a picture: placement, and size and number of each point.
struct Lines(Vec<(Placement, Vec<(f64, f64)>)>);

impl Lines {
    fn of(bar: &BarReport, quantity: Quantity) -> Self {
        let placements = [
            Placement::Plain,
            Placement::SizeAligned,
            Placement::Congruent,
        ];
        let line = |placement| {
            let own = bar.series.iter().filter(|own| own.placement == placement);
            let points = own.filter_map(|own| {
                let number = quantity.of(own)?.median;
                // A logarithm has no zero.
                (number > 0).then_some((own.size as f64, number as f64))
            });
            (placement, points.collect::<Vec<_>>())
        };
        let lines = placements.map(line).into_iter();
        Self(lines.filter(|(_, points)| !points.is_empty()).collect())
    }

    /// The least and the most of a coordinate, with room around.
    fn range(&self, coordinate: fn(&(f64, f64)) -> f64, base: f64) -> (f64, f64) {
        let all = self.0.iter().flat_map(|(_, points)| points).map(coordinate);
        let (least, most) = all.fold((f64::MAX, 0.0_f64), |(least, most), number| {
            (least.min(number), most.max(number))
        });
        let below = base.powf((least.ln() / base.ln()).floor());
        let above = base.powf((most.ln() / base.ln()).ceil());
        match below < above {
            true => (below, above),
            false => (below / base, above * base),
        }
    }
}

fn color(placement: Placement) -> RGBColor {
    match placement {
        Placement::Congruent => RGBColor(0x1a, 0x7f, 0x37),
        Placement::SizeAligned => RGBColor(0x9a, 0x67, 0x00),
        Placement::Plain => RGBColor(0xcf, 0x22, 0x2e),
    }
}

/// The width of a line. Often two placements have the same numbers, so the one below is wider.
fn width(placement: Placement) -> u32 {
    match placement {
        Placement::SizeAligned => 5,
        Placement::Congruent | Placement::Plain => 2,
    }
}

/// A logarithmic axis whose marks are whole powers of its base.
struct Powers {
    range: (f64, f64),
    base: f64,
}

impl Ranged for Powers {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    #[allow(clippy::cast_possible_truncation, reason = "pixels")]
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let (low, high) = self.range;
        let part = (value / low).ln() / (high / low).ln();
        from + (f64::from(to - from) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let (low, high) = self.range;
        let powers = std::iter::successors(Some(low), |power| Some(power * self.base));
        let all: Vec<_> = powers.take_while(|power| *power <= high * 1.001).collect();
        let step = all.len().div_ceil(hint.max_num_points().max(1)).max(1);
        all.into_iter().step_by(step).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.0..self.range.1
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Powers {}

/// Draws a picture; `None` if there is nothing to show.
fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    bar: &BarReport,
    quantity: Quantity,
) -> Option<Result<(), String>> {
    let lines = Lines::of(bar, quantity);
    if lines.0.is_empty() {
        return None;
    }
    Some(draw_lines(area, &lines, quantity).map_err(|error| error.to_string()))
}

fn draw_lines<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    lines: &Lines,
    quantity: Quantity,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let font = |size: u32| ("system-ui, sans-serif", size).into_font().color(&INK);
    let x = Powers {
        range: lines.range(|point| point.0, 2.0),
        base: 2.0,
    };
    let y_base = match quantity {
        Quantity::PageTables => 2.0,
        Quantity::Leaves | Quantity::Time(_) => 10.0,
    };
    let y = Powers {
        range: lines.range(|point| point.1, y_base),
        base: y_base,
    };
    let (_, height) = area.dim_in_pixel();
    let (upper, below) = area.split_vertically(height.saturating_sub(LEGEND));
    let mut chart = ChartBuilder::on(&upper)
        .caption(quantity.name(), font(15))
        .margin(12)
        // Half of a size's name, which can stand below the very end.
        .margin_right(26)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_labels(7)
        .y_labels(10)
        .label_style(font(11))
        .x_label_formatter(&|size| bytes(*size))
        .y_label_formatter(&|number| quantity.label(*number))
        .draw()?;
    for (index, (placement, points)) in lines.0.iter().enumerate() {
        let (color, width) = (color(*placement), width(*placement));
        let line = color.stroke_width(width);
        chart.draw_series(LineSeries::new(points.iter().copied(), line))?;
        let dots = points
            .iter()
            .map(|point| Circle::new(*point, width + 1, color.filled()));
        chart.draw_series(dots)?;
        // Below the picture, where no line can run through it.
        let (left, middle) = (76 + 116 * pixels(index), pixels(LEGEND) / 2 - 5);
        let sample = [(left, middle), (left + 18, middle)];
        below.draw(&PathElement::new(sample, line))?;
        let text = placement.to_string();
        below.draw(&Text::new(text, (left + 24, middle - 6), font(12)))?;
    }
    Ok(())
}

fn pixels(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// Adds the style sheet for dark paper to a document.
fn with_style(svg: &str) -> String {
    match svg.split_once('>') {
        Some((root, rest)) => format!("{root}><style>{DARK}</style>{rest}"),
        None => svg.to_owned(),
    }
}

/// A picture of one quantity; `None` if nothing was measured.
pub(super) fn picture(bar: &BarReport, quantity: Quantity) -> io::Result<Option<String>> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = draw(&area, bar, quantity);
        area.present().map_err(io::Error::other)?;
        drawn
    };
    match drawn {
        None => Ok(None),
        Some(Err(error)) => Err(io::Error::other(error)),
        Some(Ok(())) => Ok(Some(svg)),
    }
}

impl BenchReport {
    /// A picture of each BAR: time to make it present, and leaves.
    pub(crate) fn svg(&self) -> io::Result<String> {
        let rows = self.bars.len().max(1);
        let height = SIZE.1 * u32::try_from(rows).map_err(io::Error::other)?;
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (SIZE.0 * 2, height)).into_drawing_area();
            area.fill(&PAPER).map_err(io::Error::other)?;
            let quantities = [Quantity::Time(Step::Present), Quantity::Leaves];
            let areas = area.split_evenly((rows, 2));
            for (bar, areas) in self.bars.iter().zip(areas.chunks(2)) {
                for (quantity, area) in quantities.into_iter().zip(areas) {
                    draw(area, bar, quantity)
                        .unwrap_or(Ok(()))
                        .map_err(io::Error::other)?;
                }
            }
            area.present().map_err(io::Error::other)?;
        }
        Ok(with_style(&svg))
    }
}
