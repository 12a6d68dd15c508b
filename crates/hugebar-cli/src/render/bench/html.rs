//! The report as one page that needs no other file.

use std::fmt::Write;
use std::io;

use super::plot::{self, Quantity};
use super::report::{BarReport, BenchReport};
use super::text;

const STYLE: &str = "\
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #ffffff; max-width: 1360px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; white-space: nowrap }
th, td { padding: .25em .7em; border-bottom: 1px solid #d0d7de; text-align: left }
.number { text-align: right; font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: .5em } svg { max-width: 100%; height: auto }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 } th, td { border-color: #3d444d } }";

impl BenchReport {
    /// The page: machine, kernel, tables, and pictures of all quantities.
    pub(crate) fn html(&self) -> io::Result<String> {
        let mut page =
            String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        // Browsers ask for one otherwise.
        page.push_str("<link rel=\"icon\" href=\"data:,\">\n<title>hugebar bench</title>\n");
        let dark = plot::DARK;
        line(
            &mut page,
            format_args!("<style>\n{STYLE}\n{dark}\n</style>\n</head>\n<body>"),
        );
        line(&mut page, format_args!("<h1>What mapping a BAR costs</h1>"));
        line(
            &mut page,
            format_args!("<p>{}</p>", escaped(&self.heading())),
        );
        if let Some(holes) = self.holes() {
            line(&mut page, format_args!("<p>{}</p>", escaped(&holes)));
        }
        if self.stopped {
            line(
                &mut page,
                format_args!("<p>Stopped by a signal: the rest was not measured.</p>"),
            );
        }
        for bar in &self.bars {
            self.bar(&mut page, bar)?;
        }
        if let Some(together) = self.together() {
            line(
                &mut page,
                format_args!("<h2>All devices</h2>\n<p>{}</p>", escaped(&together)),
            );
        }
        let budget = self.budget;
        line(
            &mut page,
            format_args!(
                "<p>{} Nothing is extrapolated: what would not have ended within {budget} s was left out.</p>",
                escaped(text::LEGEND)
            ),
        );
        page.push_str("</body>\n</html>\n");
        Ok(page)
    }

    fn bar(&self, page: &mut String, bar: &BarReport) -> io::Result<()> {
        line(page, format_args!("<h2>{}</h2>", escaped(&bar.title())));
        if let Some(why) = &bar.unpopulated {
            line(page, format_args!("<p>{}</p>", escaped(why)));
        }
        page.push_str("<div class=\"wide\"><table>\n");
        row(page, "th", text::HEAD);
        for own in &bar.series {
            row(page, "td", text::cells(own));
        }
        page.push_str("</table></div>\n<div>\n");
        for quantity in Quantity::ALL {
            if let Some(picture) = plot::picture(bar, quantity)? {
                line(page, format_args!("<figure>{picture}</figure>"));
            }
        }
        page.push_str("</div>\n");
        Ok(())
    }
}

fn row(page: &mut String, tag: &str, cells: impl IntoIterator<Item = impl AsRef<str>>) {
    page.push_str("<tr>");
    for (index, cell) in cells.into_iter().enumerate() {
        let class = match text::NUMBERS.contains(&index) {
            true => " class=\"number\"",
            false => "",
        };
        let cell = escaped(cell.as_ref());
        let _ = write!(page, "<{tag}{class}>{cell}</{tag}>");
    }
    page.push_str("</tr>\n");
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "{text}");
}

/// Text that is no markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use crate::render::bench::report::tests::example;

    #[test]
    fn the_page_has_all_tables_and_pictures_and_needs_no_other_file() {
        let page = example().html().unwrap();
        assert_eq!(page.matches("<svg").count(), 8, "{page}");
        assert_eq!(page.matches("<tr>").count(), 4);
        assert!(page.contains("Linux &lt;7.3&gt;"), "{page}");
        assert!(page.contains("left out: more base pages than --limit"));
        for outside in ["src=", "@import", "url(", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_picture_has_a_line_for_each_placement_that_was_measured() {
        let svg = example().svg().unwrap();
        // Time and leaves, each a line and a legend.
        for color in ["#1A7F37", "#CF222E"] {
            let line = format!("<polyline fill=\"none\" opacity=\"1\" stroke=\"{color}\"");
            assert_eq!(svg.matches(&line).count(), 4, "{svg}");
        }
        assert!(!svg.contains("stroke=\"#9A6700\" stroke-width"), "{svg}");
        for text in [
            "256 MiB",
            "1 GiB",
            "1.00 ms",
            "Leaves",
            "prefers-color-scheme",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn csv_has_a_row_for_each_placement_and_size() {
        let csv = String::from_utf8(example().csv().unwrap()).unwrap();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 4);
        let columns = |line: &str| line.split(',').count();
        assert!(
            lines.iter().all(|line| columns(line) == columns(lines[0])),
            "{csv}"
        );
        assert!(lines[1].starts_with("<7.3>,0000:01:00.0,2,268435456,plain,1,65536,65536,65536,"));
    }
}
