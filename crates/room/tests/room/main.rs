//! The room SDK over a scripted media server: what clients see, what the media server is asked, and
//! that nothing is left behind.

#[cfg(test)]
mod delivery;
#[cfg(test)]
mod manager;
#[cfg(test)]
mod media_graph;
#[cfg(test)]
mod notifications;
#[cfg(test)]
mod races;
#[cfg(test)]
mod transcripts;
#[cfg(test)]
mod world;
