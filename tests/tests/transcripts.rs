//! The room protocol, byte by byte, against the real binary. The conversations are in `transcripts/`.

use tests::server::Server;
use tests::transcript::replay;

async fn check(name: &str) {
    replay(&Server::start().await, name).await;
}

#[tokio::test]
async fn two_people_meet_talk_and_part() {
    check("dialogue").await;
}

#[tokio::test]
async fn sessions_outlive_their_sockets() {
    check("sessions").await;
}

#[tokio::test]
async fn the_lost_and_the_silent_are_given_up() {
    check("lost").await;
}

#[tokio::test]
async fn without_a_room_nothing_can_be_done() {
    check("before_joining").await;
}

#[tokio::test]
async fn joining_is_refused_with_the_known_errors() {
    check("joining").await;
}

#[tokio::test]
async fn publishing_is_refused_and_repeated() {
    check("publishing").await;
}

#[tokio::test]
async fn subscribing_is_refused_and_repeated() {
    check("subscribing").await;
}

#[tokio::test]
async fn messages_reach_their_room_only() {
    check("messages").await;
}

#[tokio::test]
async fn a_closed_room_lets_its_people_go_on() {
    check("closed_room").await;
}
