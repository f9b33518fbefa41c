//! What a book needs to know of an event.

/// The names by which rules select an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventAttributes {
    pub(crate) sport: String,
    /// Every name of its category: URN, slug.
    pub(crate) categories: [String; 2],
    /// Every name of its tournament: URN, slug.
    pub(crate) tournaments: [String; 2],
}

impl EventAttributes {
    /// Of an event as the catalogue names it: name of the sport, URN and name of category and tournament.
    pub fn new(sport: &str, category: (&str, &str), tournament: (&str, &str)) -> Self {
        let names = |(urn, name): (&str, &str)| [urn.to_owned(), slug(name)];
        Self { sport: sport.to_lowercase(), categories: names(category), tournaments: names(tournament) }
    }
}

/// A name as selectors write it: lower case, words joined by one hyphen.
fn slug(name: &str) -> String {
    let words = name.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_slugs() {
        assert_eq!(slug("La Liga 2 (Spain)"), "la-liga-2-spain");
        assert_eq!(slug("England"), "england");
        assert_eq!(slug(" - "), "");
    }
}
