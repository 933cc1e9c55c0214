//! Notices in Japanese: the same contract as `english`.
//!
//! Other servers' words, and our reasons where no server said anything, stay in the language they were said in, so
//! that they can be searched for.

use super::{Advice, Block, recipients};
use crate::clock::Timestamp;
use crate::mail::Outcome;
use crate::notice::Language;
use crate::notice::report::{Kind, Report};

pub(in crate::notice) const SENDER_NAME: &str = "メール配信システム";

pub(super) fn subject_prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::Delayed { .. } => "配信遅延:",
        Kind::Failed => "配信不能:",
        Kind::Relayed => "転送完了:",
    }
}

/// Days, hours and minutes.
pub(in crate::notice) fn duration(units: [u64; 3]) -> String {
    let words: Vec<String> = units
        .into_iter()
        .zip(["日", "時間", "分"])
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    if words.is_empty() { "1 分未満".to_owned() } else { words.join(" ") }
}

pub(in crate::notice) fn moment(moment: Timestamp) -> String {
    const WEEKDAYS: [&str; 7] = ["月", "火", "水", "木", "金", "土", "日"];
    let zoned = moment.to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
    let weekday = WEEKDAYS[usize::from(zoned.weekday().to_monday_zero_offset().unsigned_abs())];
    let (year, month, day) = (zoned.year(), zoned.month(), zoned.day());
    format!("{year}年{month}月{day}日({weekday}) {:02}:{:02} UTC", zoned.hour(), zoned.minute())
}

fn last_words(outcome: Option<&Outcome>) -> String {
    let Some(outcome) = outcome else { return "まだ配信を試行できていません。".to_owned() };
    match (&outcome.host, &outcome.reply) {
        (Some(host), Some(reply)) => format!("{host} の応答: {reply}"),
        (Some(host), None) => format!("{host}: {}", outcome.reason),
        (None, _) => outcome.reason.clone(),
    }
}

pub(super) fn blocks(report: &Report<'_>, subject: Option<&str>) -> Vec<Block> {
    let opening = match report.kind {
        Kind::Delayed { .. } => "次の宛先への配信が遅れています:",
        Kind::Failed => "次の宛先にメッセージを配信できませんでした:",
        Kind::Relayed => "メッセージを次の宛先のメールサーバーに引き渡しました:",
    };
    let advised = |reported: &super::Reported<'_>, what| match report.kind {
        Kind::Failed => Some(advice(report, reported.expired(), what)),
        Kind::Delayed { .. } | Kind::Relayed => None,
    };
    let mut blocks = vec![Block::Prose(opening.to_owned())];
    blocks.extend(recipients(report, last_words, advised));
    blocks.extend(subject.map(|subject| Block::Prose(format!("件名: {subject}"))));
    match report.kind {
        Kind::Delayed { retry_until, next_attempt } => {
            blocks.extend(delayed(report, retry_until, next_attempt).map(Block::Prose));
        }
        Kind::Failed => {}
        Kind::Relayed if report.is_trace() => blocks.push(Block::Prose(
            "相手のサーバーはメッセージを受け付けました。この通知は、送信時に経路の通知が指定されていたためにお送りしています。"
                .to_owned(),
        )),
        Kind::Relayed if report.lacks_deadline() => blocks.push(Block::Prose(
            "相手のサーバーはメッセージを受け付けました。ただし、このサーバーはご指定の配信期限を扱わないため、期限を過ぎても通知はありません。"
                .to_owned(),
        )),
        Kind::Relayed => blocks.push(Block::Prose(
            "相手のサーバーはメッセージを受け付けましたが、配信の確認は送信しません。以後は、問題が起きた場合に限り通知があります。"
                .to_owned(),
        )),
    }
    if report.lacks_content() {
        blocks.push(Block::Prose(
            "大きさまたは形式のため、この通知にはメッセージの本文を添付できません。添付されているのはヘッダー部分のみです。"
                .to_owned(),
        ));
    }
    blocks.push(Block::Prose(details(report)));
    blocks
}

fn delayed(
    report: &Report<'_>,
    retry_until: Timestamp,
    next_attempt: Option<Timestamp>,
) -> impl Iterator<Item = String> {
    let japanese = Language::Japanese;
    if report.is_undecided() {
        return [
            "相手のサーバーが受信を確認する前に接続が切れたため、届いている可能性もあります。再送していただく必要はありません。"
                .to_owned(),
            format!(
                "二重に届くことを避けるため、サーバー {} は自動では再試行しません。もう一度送信するかどうかは管理者が判断します。",
                report.settings.hostname,
            ),
            format!("{} までに判断されない場合は、あらためてお知らせします。", japanese.moment(retry_until)),
        ]
        .into_iter();
    }
    let next = match next_attempt {
        Some(at) if at > report.now => format!("次回の試行は {} の予定です。", japanese.moment(at)),
        Some(_) => "次回の試行はまもなく行われます。".to_owned(),
        None => String::new(),
    };
    [
        "このメッセージはまだ配信されていませんが、失われてはいません。再送していただく必要はありません。"
            .to_owned(),
        format!(
            "サーバー {} は今後 {}({} まで)配信を試みます。{next}",
            report.settings.hostname,
            japanese.duration(retry_until.since(report.now)),
            japanese.moment(retry_until),
        ),
        "それまでに配信できない場合は、あらためてお知らせします。".to_owned(),
    ]
    .into_iter()
}

fn advice(report: &Report<'_>, expired: bool, advice: Advice) -> String {
    let what = match advice {
        Advice::SendAgainLater => {
            "時間をおいて、もう一度お送りください。それでも届かない場合は、別の方法で相手にご連絡ください。"
        }
        Advice::AskWhetherItArrived => {
            "相手のサーバーが受信を確認する前に接続が切れたため、届いている可能性もあります。再送する前に、相手にご確認ください。"
        }
        Advice::CheckAddress => {
            "宛先のアドレスに誤りがないかご確認のうえ、正しい宛先にもう一度お送りください。"
        }
        Advice::MailboxFull => {
            "相手のメールボックスがいっぱいです。時間をおいてもう一度お送りいただくか、別の方法で相手にご連絡ください。"
        }
        Advice::MakeSmaller => {
            "メッセージのサイズが大きすぎます。添付ファイルを小さくするか、複数のメッセージに分けてお送りください。"
        }
        Advice::RefusedByPolicy => {
            "相手のサーバーがこのメッセージの受信を拒否しました。理由は上の応答に示されている場合があります。誤りと思われる場合は、この通知を管理者にお渡しください。"
        }
        Advice::AskRecipientOrPostmaster => {
            "理由は上の応答に示されている場合があります。解決しない場合は、この通知を管理者にお渡しいただくか、別の方法で相手にご連絡ください。"
        }
    };
    if !expired {
        return what.to_owned();
    }
    let tried = Language::Japanese.duration(report.now.since(report.aged_from));
    format!(
        "サーバー {} は {tried}にわたり配信を試みましたが、配信できなかったため中止しました。{what}",
        report.settings.hostname
    )
}

fn details(report: &Report<'_>) -> String {
    format!(
        "管理者向けの情報: キュー ID {}、受付 {}({})。詳しい報告を添付しています。",
        report.id,
        Language::Japanese.moment(report.arrived_at),
        report.settings.hostname,
    )
}
