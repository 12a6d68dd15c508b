//! The report of `hugebar bench`: as text, JSON, CSV, a picture, and a page.

mod csv;
mod html;
mod plot;
mod report;
mod text;

pub(crate) use report::BenchReport;
