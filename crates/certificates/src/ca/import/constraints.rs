//! Compares the name constraints of a CA with the names that leaves may have.

use certmint_contract::DnsName;
use x509_parser::extensions::{GeneralName, NameConstraints};

use super::{ImportError, ImportRules, Member};

/// Checks that the name constraints permit every name of the rules, and that every verifier can apply them.
pub(super) fn check(
    of: &Member,
    constraints: &NameConstraints<'_>,
    rules: &ImportRules<'_>,
) -> Result<(), ImportError> {
    let (mut permitted, mut excluded) = (Vec::new(), Vec::new());
    let subtrees = [
        (constraints.permitted_subtrees.as_deref(), &mut permitted),
        (constraints.excluded_subtrees.as_deref(), &mut excluded),
    ];
    for (subtrees, dns_names) in subtrees {
        for subtree in subtrees.unwrap_or_default() {
            match &subtree.base {
                GeneralName::DNSName(name) => dns_names.push(name.to_ascii_lowercase()),
                // webpki rejects every leaf with a URI below such a CA, and every CA with a subject.
                GeneralName::URI(_) => return Err(unsupported(of, "URI")),
                GeneralName::DirectoryName(_) => return Err(unsupported(of, "directoryName")),
                // Leaves have no such names.
                _ => {}
            }
        }
    }
    check_permitted(of, &permitted, rules.dns_names)?;
    check_excluded(of, &excluded, rules.dns_names)
}

fn check_permitted(of: &Member, permitted: &[String], names: &[DnsName]) -> Result<(), ImportError> {
    if permitted.is_empty() || permitted.iter().any(String::is_empty) {
        return Ok(());
    }
    let not_permitted = |name: &str| ImportError::NotPermitted {
        of: of.clone(),
        name: name.into(),
        permitted: shortened(permitted),
    };
    if names.is_empty() {
        return Err(not_permitted("short names"));
    }
    let is_permitted = |name: &DnsName| permitted.iter().any(|base| covers(base, name.as_str()));
    names.iter().find(|name| !is_permitted(name)).map_or(Ok(()), |name| Err(not_permitted(name.as_str())))
}

fn check_excluded(of: &Member, excluded: &[String], names: &[DnsName]) -> Result<(), ImportError> {
    let conflict = excluded.iter().find(|base| {
        base.is_empty()
            || names.iter().any(|name| {
                covers(base, name.as_str()) || covers(name.as_str(), base.trim_start_matches('.'))
            })
    });
    conflict.map_or(Ok(()), |base| {
        Err(ImportError::Excluded { of: of.clone(), name: shortened(std::slice::from_ref(base)) })
    })
}

/// Returns whether the constraint `base` applies to `name` and to all names below it. A constraint that begins with a
/// dot does not apply to the name after the dot itself.
fn covers(base: &str, name: &str) -> bool {
    let suffix = base.strip_prefix('.');
    (suffix.is_none() && base == name)
        || name.strip_suffix(suffix.unwrap_or(base)).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn unsupported(of: &Member, kind: &'static str) -> ImportError {
    ImportError::UnsupportedConstraint { of: of.clone(), kind }
}

/// Returns the first constraints, in a text of limited length.
fn shortened(constraints: &[String]) -> String {
    let names: Vec<_> = constraints.iter().take(4).map(|name| super::error::printable(name)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_constraint_covers_its_name_and_all_names_below() {
        for (base, name, is_covered) in [
            ("svc", "svc", true),
            ("svc", "shop.svc", true),
            (".svc", "svc", false),
            (".svc", "shop.svc", true),
            ("vc", "svc", false),
            ("shop.svc", "svc", false),
            ("cluster.local", "svc.cluster.local", true),
        ] {
            assert_eq!(covers(base, name), is_covered, "{base} {name}");
        }
    }
}
