//! Who may come in at all, by address, database and user; this stands before the server's own authentication (§10).

use std::net::IpAddr;

use ipnet::IpNet;

use super::problem::Complaint;
use super::section::Section;

/// One `[[allow]]` rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// Where a session may come from; empty for anywhere.
    pub address: Vec<AddressRule>,
    /// The databases it may ask for.
    pub database: Names,
    /// The roles it may log in as.
    pub user: Names,
    /// Whether a session is admitted of which the server asked no proof, although it comes from beyond this machine.
    pub trust: bool,
}

/// An address that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRule {
    /// The Unix socket.
    Local,
    /// A network, or one address as a network of its own.
    Net(IpNet),
}

/// Names that a rule lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// `all`, or no list.
    All,
    /// These and no others.
    Only(Vec<String>),
}

/// Where a session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The Unix socket.
    Local,
    /// A TCP connection from this address.
    Addr(IpAddr),
}

/// What the rules say to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may come in.
    Admitted {
        /// Whether also when the server asks it for no proof.
        trust: bool,
    },
    /// No rule fits it.
    Refused,
}

/// What `rules` say to a session: the first that fits counts; without any rule everyone is admitted.
pub fn admit(rules: &[Allow], source: Source, database: &str, user: &str) -> Admission {
    if rules.is_empty() {
        return Admission::Admitted { trust: false };
    }
    match rules.iter().find(|rule| rule.fits(source, database, user)) {
        Some(rule) => Admission::Admitted { trust: rule.trust },
        None => Admission::Refused,
    }
}

impl Allow {
    fn fits(&self, source: Source, database: &str, user: &str) -> bool {
        let address = self.address.is_empty() || self.address.iter().any(|from| from.includes(source));
        address && self.database.include(database) && self.user.include(user)
    }
}

impl AddressRule {
    fn includes(&self, source: Source) -> bool {
        match (self, source) {
            (Self::Local, Source::Local) => true,
            // A listener on `*` sees IPv4 clients as mapped IPv6 addresses.
            (Self::Net(net), Source::Addr(addr)) => net.contains(&addr.to_canonical()),
            _ => false,
        }
    }
}

impl Names {
    fn include(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|n| n == name),
        }
    }

    fn read(section: &mut Section<'_>, key: &'static str) -> Self {
        let names = section.several(key, |name| match name {
            "" => Err(Complaint::new("a name is empty; leave the key out to allow all")),
            name => Ok(name.to_owned()),
        });
        match names {
            Some(names) if !names.iter().any(|n| n == "all") => Self::Only(names),
            _ => Self::All,
        }
    }
}

impl Allow {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        for key in ["address", "database", "user"] {
            if let Some(item) = section.take(key)
                && section.reading().each(&item).is_empty()
            {
                let message = "an empty list fits nobody; leave the key out to allow all";
                section.reading().object(&item, Complaint::new(message));
            }
        }
        let rule = Self {
            address: section.several("address", address).unwrap_or_default(),
            database: Names::read(&mut section, "database"),
            user: Names::read(&mut section, "user"),
            trust: section.flag("trust").unwrap_or(false),
        };
        section.finish(|_| None);
        rule
    }
}

fn address(text: &str) -> Result<AddressRule, Complaint> {
    if text == "local" {
        return Ok(AddressRule::Local);
    }
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Ok(AddressRule::Net(addr.into()));
    }
    let net: IpNet = text.parse().map_err(|_| {
        let message =
            format!("`{text}` is not an address or a network, such as \"10.0.0.0/8\" or \"::1\", nor `local`");
        Complaint::new(message).suggest((text == "localhost").then_some("127.0.0.1"))
    })?;
    if net.trunc() != net {
        let message = format!("`{text}` has address bits beyond its prefix");
        return Err(Complaint::new(message).suggest(Some(net.trunc().to_string())));
    }
    Ok(AddressRule::Net(net))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    fn rule(addresses: &[&str], database: Names, user: Names, trust: bool) -> Allow {
        Allow { address: addresses.iter().map(|a| address(a).unwrap()).collect(), database, user, trust }
    }

    fn only(name: &str) -> Names {
        Names::Only(vec![name.to_owned()])
    }

    fn from(addr: &str) -> Source {
        Source::Addr(addr.parse().unwrap())
    }

    const YES: Admission = Admission::Admitted { trust: false };
    const TRUSTED: Admission = Admission::Admitted { trust: true };

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = [
            rule(&["local", "127.0.0.1"], Names::All, Names::All, false),
            rule(&["10.1.0.0/16", "fd00::/8"], only("app"), Names::All, true),
            rule(&["10.0.0.0/8"], only("app"), only("alice"), false),
        ];
        for (source, database, user, want) in [
            (Source::Local, "any", "any", YES),
            (from("127.0.0.1"), "any", "any", YES),
            (from("::ffff:127.0.0.1"), "any", "any", YES),
            (from("127.0.0.2"), "any", "any", Admission::Refused),
            (from("10.1.2.3"), "app", "alice", TRUSTED),
            (from("10.2.2.3"), "app", "alice", YES),
            (from("10.2.2.3"), "app", "bob", Admission::Refused),
            (from("fd00::1"), "app", "bob", TRUSTED),
            (from("fd00::1"), "other", "bob", Admission::Refused),
        ] {
            assert_eq!(admit(&rules, source, database, user), want, "{source:?} {database} {user}");
        }
    }

    #[test]
    fn without_rules_everyone_comes_in_but_nobody_is_trusted() {
        assert_eq!(admit(&[], from("8.8.8.8"), "any", "any"), YES);
    }

    #[test]
    fn addresses_are_networks_or_local() {
        assert_eq!(address("10.0.0.1/8").unwrap_err().suggestion.as_deref(), Some("10.0.0.0/8"));
        assert_eq!(address("localhost").unwrap_err().suggestion.as_deref(), Some("127.0.0.1"));
        assert!(address("10.0.0.0/33").is_err() && address("").is_err());
    }
}
