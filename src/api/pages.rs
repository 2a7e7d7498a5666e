//! Reads what an answer's headers say about pages. The API has none today; a gateway or a later version may.

use reqwest::header::HeaderMap;

use crate::exchange::PageHeaders;

/// How many elements there are in all.
const TOTALS: [&str; 4] = ["x-total-count", "x-total", "x-pagination-total-count", "total-count"];

/// Something where there is a next page.
const NEXT: [&str; 5] = ["x-next-page", "x-next-cursor", "x-next-token", "x-has-more", "x-continuation-token"];

/// Reads an answer's headers.
pub(super) fn read(headers: &HeaderMap) -> PageHeaders {
    let all = |name: &'static str| headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::trim);
    let number = |name| all(name).find_map(|text| text.parse::<u64>().ok());
    let is_something = |text: &str| !["", "0", "false", "null", "none"].contains(&text.to_ascii_lowercase().as_str());
    PageHeaders {
        has_next: all("link").any(links_to_next)
            || NEXT.iter().any(|name| all(name).any(is_something))
            || number("x-total-pages").is_some_and(|pages| pages > 1),
        total: TOTALS.iter().find_map(|name| number(name)).or_else(|| all("content-range").find_map(total_of_range)),
    }
}

/// Whether a `Link` header has the relation `next` (RFC 8288, section 3).
fn links_to_next(link: &str) -> bool {
    link.to_ascii_lowercase().split([';', ',']).any(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return false };
        name.trim() == "rel" && value.trim().trim_matches('"').split_whitespace().any(|relation| relation == "next")
    })
}

/// The total of `items 0-24/319`.
fn total_of_range(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &str) -> PageHeaders {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        read(&headers)
    }

    #[test]
    fn each_sign_of_a_next_page_counts_and_nothing_else() {
        for (name, value) in [
            ("link", "<https://api/x?page=2>; rel=\"next\""),
            ("link", "<x?page=1>; rel=first, <x?page=2>; REL=next; title=\"n\""),
            ("link", "<x>; rel=\"last next\""),
            ("x-next-page", "2"),
            ("x-has-more", "true"),
            ("x-total-pages", "2"),
        ] {
            assert!(of(name, value).has_next, "{name}: {value}");
        }
        for (name, value) in [
            ("link", "<x?rel=next>; rel=\"self\""),
            ("link", "</style.css>; rel=preload; as=style"),
            ("x-next-page", ""),
            ("x-has-more", "False"),
            ("x-total-pages", "1"),
        ] {
            assert_eq!(of(name, value), PageHeaders::default(), "{name}: {value}");
        }
        let total = |total| PageHeaders { total: Some(total), has_next: false };
        assert_eq!(of("x-total-count", "319"), total(319));
        assert_eq!(of("x-total", " 7 "), total(7));
        assert_eq!(of("content-range", "items 0-24/319"), total(319));
        assert_eq!(of("x-total-count", "many"), PageHeaders::default());
    }
}
