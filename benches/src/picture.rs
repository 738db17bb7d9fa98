//! Bars of ratios on a logarithmic axis, as SVG. A picture has a background of its own, and colours for a
//! light and a dark page. If a viewer knows neither, it shows the light ones, which can be read on both.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The bars of one figure.
pub struct Group {
    pub name: String,
    pub bars: Vec<Bar>,
}

/// reaped ÷ peer.
pub struct Bar {
    pub peer: String,
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

/// A colour on a light page, and the colour on a dark page.
type Shade = (RGBColor, &'static str);

const PAPER: Shade = (RGBColor(255, 255, 255), "#0d1117");
const INK: Shade = (RGBColor(31, 35, 40), "#e6edf3");
const PALE: Shade = (RGBColor(89, 99, 110), "#9198a1");
const GRID: Shade = (RGBColor(216, 222, 228), "#30363d");
/// Everybody can tell them apart, also by their side of the line at 1.
const FASTER: Shade = (RGBColor(9, 105, 218), "#4493f8");
const SLOWER: Shade = (RGBColor(188, 76, 0), "#db6d28");
const SHADES: [Shade; 6] = [PAPER, INK, PALE, GRID, FASTER, SLOWER];

const WIDTH: i32 = 860;
const ROW: i32 = 17;
const GAP: i32 = 9;
const TOP: i32 = 62;
const BOTTOM: i32 = 12;
/// plotters takes the height of a line, not of a letter.
const EM: f64 = 1.24;
/// For ratios of any size, and for ratios that are all near 1.
const WIDE: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
const NEAR: [f64; 12] = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0];

/// Families that measure more than time.
const LESS: [&str; 4] = ["waiting", "talkers", "instructions", "build"];

/// The picture; the title may be empty.
pub fn draw(title: &str, groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = TOP + rows as i32 * ROW + groups.len() as i32 * GAP + BOTTOM;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        paint(&root, title, groups, height).expect("a string takes everything");
    }
    shaded(&svg, title)
}

fn paint(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    groups: &[Group],
    height: i32,
) -> Result<(), Box<dyn Error>> {
    root.fill(&PAPER.0)?;
    // Long names of tasks need more room than names of figures.
    let longest = groups.iter().map(|group| group.name.chars().count() as i32).max().unwrap_or(0);
    let peers = 24 + longest * 7 + 100;
    let (left, right) = (peers + 10, WIDTH - 70);
    let axis = Axis::over(groups, left, right);
    let says = if LESS.contains(&title) { "less" } else { "faster" };
    let colon = if title.is_empty() { "" } else { ": " };
    let heading = format!("{title}{colon}reaped ÷ peer; below 1 is {says}");
    root.draw(&text(heading, (14, 20), 15, INK, HPos::Left))?;
    for tick in axis.ticks.iter().copied() {
        let x = axis.x(tick);
        let shade = if tick == 1.0 { PALE } else { GRID };
        root.draw(&PathElement::new([(x, TOP - 8), (x, height - BOTTOM)], shade.0.stroke_width(1)))?;
        root.draw(&text(format!("{tick}"), (x, TOP - 17), 12, PALE, HPos::Center))?;
    }
    let mut y = TOP;
    for group in groups {
        root.draw(&text(group.name.clone(), (14, y + ROW / 2), 13, INK, HPos::Left))?;
        for bar in &group.bars {
            let shade = if bar.median <= 1.0 { FASTER } else { SLOWER };
            let middle = y + ROW / 2;
            let (one, end) = (axis.x(1.0), axis.x(bar.median));
            let corners = [(one.min(end), y + 3), (one.max(end), y + ROW - 3)];
            root.draw(&Rectangle::new(corners, shade.0.filled()))?;
            let whisker = [(axis.x(bar.least), middle), (axis.x(bar.most), middle)];
            root.draw(&PathElement::new(whisker, INK.0.stroke_width(1)))?;
            root.draw(&text(bar.peer.clone(), (peers, middle), 12, PALE, HPos::Right))?;
            root.draw(&text(crate::report::short(bar.median), (WIDTH - 14, middle), 12, INK, HPos::Right))?;
            y += ROW;
        }
        y += GAP;
    }
    Ok(root.present()?)
}

fn text(
    words: String,
    at: (i32, i32),
    size: i32,
    shade: Shade,
    side: HPos,
) -> Text<'static, (i32, i32), String> {
    let style =
        ("sans-serif", f64::from(size) * EM).into_font().color(&shade.0).pos(Pos::new(side, VPos::Center));
    Text::new(words, at, style)
}

/// From one tick to another, with 1 in between.
struct Axis {
    ticks: Vec<f64>,
    left: i32,
    right: i32,
}

impl Axis {
    fn over(groups: &[Group], left: i32, right: i32) -> Self {
        let bars = || groups.iter().flat_map(|group| &group.bars);
        let least = bars().map(|bar| bar.least).fold(0.9, f64::min);
        let most = bars().map(|bar| bar.most).fold(1.1, f64::max);
        let known: &[f64] = if NEAR[0] <= least && most <= NEAR[NEAR.len() - 1] { &NEAR } else { &WIDE };
        let from = known.iter().rposition(|tick| *tick <= least).unwrap_or(0);
        let to = known.iter().position(|tick| *tick >= most).unwrap_or(known.len() - 1);
        let mut ticks = known[from..=to].to_vec();
        if ticks.len() > 9 {
            // Too close to be readable. The ends stay.
            ticks.retain(|tick| [known[from], known[to]].contains(tick) || tick.log10().fract() == 0.0);
        }
        Axis { ticks, left, right }
    }

    fn x(&self, ratio: f64) -> i32 {
        let (from, to) = (self.ticks[0], self.ticks[self.ticks.len() - 1]);
        let part = (ratio.clamp(from, to) / from).ln() / (to / from).ln();
        self.left + (part * f64::from(self.right - self.left)).round() as i32
    }
}

/// Adds the colours of a dark page, and the text that a screen reader reads instead of the picture.
fn shaded(svg: &str, title: &str) -> String {
    let mut style = String::from("<style>@media (prefers-color-scheme: dark) {");
    for (RGBColor(red, green, blue), dark) in SHADES {
        let light = format!("#{red:02X}{green:02X}{blue:02X}");
        style.push_str(&format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}"));
    }
    style.push_str("}</style>");
    let title = if title.is_empty() { "README's table" } else { title };
    let head = svg.find("<svg").and_then(|start| Some(start + svg[start..].find('>')? + 1)).unwrap_or(0);
    let (before, after) = svg.split_at(head);
    format!("{before}\n<title>{title}: reaped ÷ peer</title>\n{style}{after}")
}
