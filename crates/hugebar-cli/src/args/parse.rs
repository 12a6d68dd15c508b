//! Values of arguments: sizes, BARs, areas, requirements, limits.

use hugebar::layout::Area;
use hugebar::verdict::Requirement;

/// How much may be populated in base pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u64>);

/// `4096`, `0x1000`, `24K`, `2M`, `1GiB`, `4T`: bytes, in binary units.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write 4096, 0x1000, 24K, 2M or 1G");
    if let Some(digits) = text.strip_prefix("0x") {
        let valid = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(digits, 16).ok().filter(|_| valid);
        return number.ok_or_else(wrong);
    }
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or(unit.strip_suffix('b'));
    let shift = match letter.unwrap_or(&unit) {
        "" if !unit.starts_with('i') => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

pub(super) fn parse_bar(text: &str) -> Result<u32, String> {
    let bar = text.parse().ok().filter(|bar| *bar <= 5);
    bar.ok_or_else(|| format!("{text:?} is not a BAR; BARs are 0 to 5"))
}

pub(super) fn parse_area(text: &str) -> Result<Area, String> {
    let (offset, size) = text
        .split_once('+')
        .ok_or_else(|| format!("{text:?} is not OFFSET+SIZE; write 0x6000+0x1000 or 24K+4K"))?;
    Ok(Area::new(parse_size(offset)?, parse_size(size)?))
}

pub(super) fn parse_requirement(text: &str) -> Result<Requirement, String> {
    match text {
        "optimal" => Ok(Requirement::Optimal),
        size => parse_size(size)
            .map(Requirement::Size)
            .map_err(|wrong| format!("{wrong}, or \"optimal\"")),
    }
}

pub(super) fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        size => parse_size(size)
            .map(|size| Limit(Some(size)))
            .map_err(|wrong| format!("{wrong}, or \"none\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("0x6000", 0x6000),
            ("24K", 24 << 10),
            ("2MiB", 2 << 20),
            ("1g", 1 << 30),
            ("3TB", 3 << 40),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "G",
            "0x",
            "0x+1",
            "1.5G",
            "-1",
            "+1",
            "4Q",
            "1ib",
            "16777216T",
            "1 G",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn areas_and_requirements() {
        assert_eq!(parse_area("0x6000+4K"), Ok(Area::new(0x6000, 0x1000)));
        for text in [
            "",
            "+",
            "0x6000",
            "0x6000+",
            "+0x1000",
            "1+2+3",
            "0x6000-0x7000",
        ] {
            assert!(parse_area(text).is_err(), "{text}");
        }
        assert_eq!(parse_requirement("optimal"), Ok(Requirement::Optimal));
        assert_eq!(parse_requirement("1G"), Ok(Requirement::Size(1 << 30)));
        assert!(parse_requirement("best").is_err());
        assert_eq!(parse_bar("5"), Ok(5));
        for text in ["6", "-1", "", "0000:00:10.0"] {
            assert!(parse_bar(text).is_err(), "{text}");
        }
        assert_eq!(parse_limit("none"), Ok(Limit(None)));
    }
}
