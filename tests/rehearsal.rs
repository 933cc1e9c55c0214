//! What README.md shows of a `World` in a test, as it stands there.

use std::time::Duration;

use posthouse::lab::World;

#[tokio::test(start_paused = true)]
async fn the_sender_is_told_after_four_hours() -> Result<(), Box<dyn std::error::Error>> {
    let script = ["rcpt bob@example.com until 5h: 452 4.2.2 mailbox full".parse()?];
    let mut world = World::builder().upstream("main", script).start().await?;
    world.send("alice@example.org", ["bob@example.com"], "Subject: lunch\r\n\r\nAt noon?\r\n").await?;

    world.advance(Duration::from_secs(4 * 3600 + 60)).await;
    let notice = &world.upstream("main").received()[0];
    assert!(notice.content.contains("will keep trying for 1 day 20 hours"));

    world.until_quiet(Duration::from_secs(3 * 86400)).await;
    let story = world.story().await;
    assert_eq!(story.received["main"].len(), 2, "the notice, and at last the message");
    Ok(())
}
