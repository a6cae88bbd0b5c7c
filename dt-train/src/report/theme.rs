//! Colours and style sheets, of the page in light and dark and of pictures, which are always light.

/// Runs that have a colour of their own.
pub const COLOURS: usize = 8;

/// What the style sheets call a colour, in light and in dark. Those of runs are near Okabe and Ito's, which
/// colour-blind readers can tell apart, each with a contrast of at least 4.5 to its page.
const PALETTE: [(&str, &str, &str); 8 + COLOURS] = [
    ("page", "#ffffff", "#11161b"),
    ("ink", "#16202a", "#e7edf2"),
    ("soft", "#55636f", "#9fadb9"),
    ("line", "#dfe5ea", "#2a343d"),
    ("tint", "#f4f7f9", "#192027"),
    ("link", "#0063a0", "#6cb8ee"),
    ("bad", "#b3261e", "#ff8a80"),
    ("data", "#b4bec7", "#4d5a66"),
    ("c0", "#0072b2", "#56b4e9"),
    ("c1", "#c65200", "#ff9356"),
    ("c2", "#007f5f", "#3fcf9f"),
    ("c3", "#a83a7c", "#ea8cc8"),
    ("c4", "#9a6a00", "#e6b84a"),
    ("c5", "#5b4fc7", "#a79ff8"),
    ("c6", "#7a4b21", "#cfa27a"),
    ("c7", "#007a85", "#4fcbd4"),
];

/// How the marks of a chart look, on the page and in pictures.
const CHARTS: &str = include_str!("charts.css");

/// The page's style sheet.
pub fn page() -> String {
    let variables =
        |of: fn(&(&str, &str, &str)) -> String| PALETTE.iter().map(of).collect::<String>();
    let light = variables(|(name, light, _)| format!("--{name}:{light};"));
    let dark = variables(|(name, _, dark)| format!("--{name}:{dark};"));
    format!(
        ":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n{}{CHARTS}",
        include_str!("page.css")
    )
}

/// A picture's style sheet: no variables, which few programs but browsers know.
pub fn picture() -> String {
    light(&format!("{}{CHARTS}", include_str!("picture.css")))
}

/// `sheet` with the light colours in place of variables.
fn light(sheet: &str) -> String {
    PALETTE
        .iter()
        .fold(sheet.to_owned(), |sheet, (name, light, _)| {
            sheet.replace(&format!("var(--{name})"), light)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(colour: &str) -> f64 {
        let channel = |i: usize| {
            let c = f64::from(u8::from_str_radix(&colour[i..i + 2], 16).unwrap()) / 255.0;
            if c <= 0.04045 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    /// Web Content Accessibility Guidelines 2.2, "contrast ratio".
    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        f64::max(a, b) / f64::min(a, b)
    }

    #[test]
    fn letters_and_lines_can_be_told_from_the_page() {
        assert_eq!(contrast("#000000", "#ffffff"), 21.0);
        let (_, light, dark) = PALETTE[0];
        let faint = ["page", "line", "tint", "data"];
        for (name, in_light, in_dark) in PALETTE {
            for contrast in [contrast(in_light, light), contrast(in_dark, dark)] {
                assert_eq!(
                    contrast >= 4.5,
                    !faint.contains(&name),
                    "{name}: {contrast:.2}"
                );
            }
        }
    }

    #[test]
    fn every_colour_is_known_and_a_picture_has_no_variables() {
        assert!(CHARTS.contains("var(--c7)") && page().contains("--c7:#007a85;"));
        assert!(!picture().contains("var(") && picture().contains(".c7 { color: #007a85; }"));
        assert!(light("fill: var(--unheard-of)").contains("var("));
        let unknown = page().split("var(--").skip(1).find_map(|rest| {
            let name = rest.split(')').next()?;
            PALETTE
                .iter()
                .all(|(known, ..)| *known != name)
                .then(|| name.to_owned())
        });
        assert_eq!(unknown, None);
    }
}
