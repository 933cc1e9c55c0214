//! The TXT record at `_mta-sts.DOMAIN`: that there is a policy, and which one (RFC 8461 section 3.1).

/// The id of the policy; nothing where there is no record, or more than one, or it is not in order: then the domain
/// counts as one that has none.
pub(super) fn id(texts: &[String]) -> Option<&str> {
    let mut ours = texts.iter().filter(|text| is_ours(text));
    let only = ours.next().filter(|_| ours.next().is_none())?;
    let mut fields = only.split(';').skip(1).map(str::trim);
    let id = fields.find_map(|field| field.strip_prefix("id")?.trim_start().strip_prefix('='))?.trim();
    let good = (1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    good.then_some(id)
}

/// Others may stand beside it.
fn is_ours(text: &str) -> bool {
    text.strip_prefix("v=STSv1").is_some_and(|rest| rest.trim_start().starts_with(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_the_only_record_counts() {
        let of = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            id(&texts).map(str::to_owned)
        };
        assert_eq!(of(&["v=STSv1; id=20160831085700Z;"]).as_deref(), Some("20160831085700Z"));
        assert_eq!(of(&["v=spf1 -all", "v=STSv1;x=y; id = 7"]).as_deref(), Some("7"));
        for none in [
            &["v=STSv1; id=1", "v=STSv1; id=2"][..],
            &["v=STSv1"],
            &["v=STSv1; id="],
            &["v=STSv1; id=a-b"],
            &["v=STSv1; id=123456789012345678901234567890123"],
            &["v=STSv2; id=1"],
            &[],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
