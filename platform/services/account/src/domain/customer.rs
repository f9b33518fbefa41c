//! Who may become a customer.

use jiff::civil::Date;
use paddock_money::Currency;

/// Years that a customer must have completed.
const ADULT_YEARS: i16 = 18;
const MAX_EMAIL: usize = 254;
const MAX_NAME: usize = 200;
const MIN_PASSWORD: usize = 8;
/// Longer passwords cost hashing time and gain nothing.
const MAX_PASSWORD: usize = 256;

/// What a customer may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, strum::Display, strum::EnumString,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum CustomerState {
    /// Everything.
    Active,
    /// Nothing, until staff decide; open bets settle and pay.
    Suspended,
    /// Nothing, by the customer's own wish or a register's.
    Excluded,
    /// Nothing, for good.
    Closed,
}

/// What a person writes to become a customer, as it came.
#[derive(Debug, Clone)]
pub struct Application<'a> {
    /// Address, unique without regard to case.
    pub email: &'a str,
    /// Secret.
    pub password: &'a str,
    /// Full name.
    pub name: &'a str,
    /// `YYYY-MM-DD`.
    pub birth_date: &'a str,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: &'a str,
    /// ISO 4217.
    pub currency: &'a str,
}

/// A checked application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// Trimmed address.
    pub email: String,
    /// Trimmed name.
    pub name: String,
    /// Day of birth.
    pub birth_date: Date,
    /// Country code.
    pub country: String,
    /// Currency of the wallet.
    pub currency: Currency,
}

/// Why an application is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplicationError {
    /// Not an address.
    #[error("email is not an address: write it like name@example.com")]
    Email,
    /// Too short or too long.
    #[error("the password must have 8 to 256 characters: choose another")]
    Password,
    /// Empty or too long.
    #[error("the name must have 1 to 200 characters: write your full name")]
    Name,
    /// Not a date.
    #[error("birthDate is not a day: write it as YYYY-MM-DD")]
    BirthDate,
    /// Under 18.
    #[error("customers must be at least 18 years old: an account cannot be opened")]
    Underage,
    /// Not a country code.
    #[error("country is no ISO 3166 code: write two upper-case letters such as GB")]
    Country,
    /// Not offered here.
    #[error("the currency is not offered here: choose one of the brand's currencies")]
    Currency,
}

impl ApplicationError {
    /// Stable code for APIs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Email => "email-invalid",
            Self::Password => "password-invalid",
            Self::Name => "name-invalid",
            Self::BirthDate => "birth-date-invalid",
            Self::Underage => "underage",
            Self::Country => "country-invalid",
            Self::Currency => "currency-not-offered",
        }
    }
}

/// Checks an application on a day, for a brand that offers some currencies.
pub fn check(application: &Application<'_>, today: Date, offered: &[Currency]) -> Result<Applicant, ApplicationError> {
    let email = application.email.trim();
    if !is_address(email) {
        return Err(ApplicationError::Email);
    }
    if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&application.password.chars().count()) {
        return Err(ApplicationError::Password);
    }
    let name = application.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ApplicationError::Name);
    }
    let birth_date: Date = application.birth_date.parse().map_err(|_| ApplicationError::BirthDate)?;
    if birth_date.year() < 1900 || birth_date > today {
        return Err(ApplicationError::BirthDate);
    }
    if !is_adult(birth_date, today) {
        return Err(ApplicationError::Underage);
    }
    let country = application.country;
    if country.len() != 2 || !country.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return Err(ApplicationError::Country);
    }
    let currency = Currency::of(application.currency).map_err(|_| ApplicationError::Currency)?;
    if !offered.contains(&currency) {
        return Err(ApplicationError::Currency);
    }
    Ok(Applicant { email: email.to_owned(), name: name.to_owned(), birth_date, country: country.to_owned(), currency })
}

/// Whether the 18th birthday has come. Who is born on 29 February comes of age on 1 March.
fn is_adult(birth_date: Date, today: Date) -> bool {
    let years = today.year() - birth_date.year();
    let had_birthday = (today.month(), today.day()) >= (birth_date.month(), birth_date.day());
    years > ADULT_YEARS || (years == ADULT_YEARS && had_birthday)
}

fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    text.len() <= MAX_EMAIL
        && !local.is_empty()
        && local.len() <= 64
        && !local.contains('@')
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty())
        && !text.chars().any(|letter| letter.is_whitespace() || letter.is_control())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const GOOD: Application<'static> = Application {
        email: " Ann@Example.com ",
        password: "correct horse",
        name: "Ann Example",
        birth_date: "2000-02-29",
        country: "GB",
        currency: "EUR",
    };

    fn on(application: &Application<'_>, today: Date) -> Result<Applicant, ApplicationError> {
        check(application, today, &[Currency::EUR])
    }

    #[test]
    fn takes_a_good_application() {
        let applicant = on(&GOOD, date(2026, 1, 1)).unwrap();
        assert_eq!(applicant.email, "Ann@Example.com");
        assert_eq!(applicant.currency, Currency::EUR);
    }

    #[test]
    fn refuses_one_day_before_the_birthday() {
        assert_eq!(on(&GOOD, date(2018, 2, 28)), Err(ApplicationError::Underage));
        assert!(on(&GOOD, date(2018, 3, 1)).is_ok());
        let june = Application { birth_date: "2008-06-15", ..GOOD };
        assert_eq!(on(&june, date(2026, 6, 14)), Err(ApplicationError::Underage));
        assert!(on(&june, date(2026, 6, 15)).is_ok());
    }

    #[test]
    fn names_what_is_wrong() {
        let today = date(2026, 1, 1);
        for email in
            ["", "ann", "@example.com", "ann@", "ann@localhost", "a b@example.com", "a@b@example.com", "a@x..y"]
        {
            assert_eq!(on(&Application { email, ..GOOD }, today), Err(ApplicationError::Email), "{email}");
        }
        assert_eq!(on(&Application { password: "short", ..GOOD }, today), Err(ApplicationError::Password));
        assert_eq!(on(&Application { name: "  ", ..GOOD }, today), Err(ApplicationError::Name));
        for birth_date in ["2026-02-01", "1850-01-01", "2000-02-30", "01.02.2000"] {
            assert_eq!(
                on(&Application { birth_date, ..GOOD }, today),
                Err(ApplicationError::BirthDate),
                "{birth_date}"
            );
        }
        assert_eq!(on(&Application { country: "gb", ..GOOD }, today), Err(ApplicationError::Country));
        assert_eq!(on(&Application { currency: "USD", ..GOOD }, today), Err(ApplicationError::Currency));
    }
}
