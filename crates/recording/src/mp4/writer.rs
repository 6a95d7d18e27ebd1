//! Writing fragmented MP4: each fragment is complete in itself, so a file that was cut off plays up to the last one.

use std::io::{self, Seek, SeekFrom, Write};
use std::time::Duration;

use forwarding::codec::Codec;
use mp4_atom::{
    Atom, Audio, Av01, Av1c, Avc1, Avcc, Dinf, Dops, Dref, DrefEntry, Encode, FragmentInfo, Ftyp,
    Hdlr, Mdhd, Mdia, Mehd, Mfhd, Mfra, Mfro, Minf, Moof, Moov, Mvex, Mvhd, Opus, Smhd, Stbl, Stco,
    Stsd, Tfdt, Tfhd, Tfra, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, TrunSamples, Url, Visual,
    Vmhd, Vp08, Vp09, VpcC,
};

use crate::muxer::{CUES_MAX, PART_BYTES_MAX, PART_TIME_MAX};
use crate::track::{Frame, TrackFormat, TrackKind};

/// Shortest time after which a key frame begins a fragment. Too low: fragments of screens that send key frames only.
/// Too high: nothing, up to [`PART_TIME_MAX`].
const FRAGMENT_TIME_MIN: Duration = Duration::from_secs(1);

/// Unit of the movie header's times.
const MOVIE_TIMESCALE: u32 = 1000;

/// Decoding can begin here: depends on nothing (`sample_depends_on` 2).
const FLAGS_KEY: u32 = 0x0200_0000;
/// Depends on others, and is no sync sample.
const FLAGS_INTER: u32 = 0x0101_0000;

/// How long a frame is shown whose successor never came, by kind.
const LAST_VIDEO: Duration = Duration::from_millis(33);
const LAST_AUDIO: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Sample {
    ticks: u64,
    is_key: bool,
    data: Vec<u8>,
}

#[derive(Debug)]
struct TrackState {
    id: u32,
    kind: TrackKind,
    timescale: u32,
    /// With their durations.
    samples: Vec<(Sample, u32)>,
    /// Lasts until the next one comes.
    pending: Option<Sample>,
    fragments: Vec<FragmentInfo>,
    end: Duration,
}

/// An MP4 file that is being written.
#[derive(Debug)]
pub(crate) struct Mp4Writer<W> {
    out: W,
    len: u64,
    moov_at: u64,
    formats: Vec<TrackFormat>,
    tracks: Vec<TrackState>,
    sequence: u32,
    /// Time and bytes of the fragment being gathered.
    fragment_began: Option<Duration>,
    fragment_bytes: usize,
}

impl<W: Write + Seek> Mp4Writer<W> {
    pub(crate) fn new(out: W, formats: &[TrackFormat]) -> io::Result<Self> {
        let tracks = (1..).zip(formats).map(|(id, format)| TrackState {
            id,
            kind: format.kind(),
            timescale: match format.kind() {
                TrackKind::Video => 90_000,
                TrackKind::Audio => 48_000,
            },
            samples: Vec::new(),
            pending: None,
            fragments: Vec::new(),
            end: Duration::ZERO,
        });
        let mut writer = Self {
            out,
            len: 0,
            moov_at: 0,
            formats: formats.to_vec(),
            tracks: tracks.collect(),
            sequence: 0,
            fragment_began: None,
            fragment_bytes: 0,
        };
        let brands: [&[u8; 4]; 3] = [b"iso5", b"iso6", b"mp41"];
        let mut head = Vec::new();
        encode(
            &Ftyp {
                major_brand: b"iso5".into(),
                minor_version: 512,
                compatible_brands: brands.map(Into::into).to_vec(),
            },
            &mut head,
        )?;
        writer.moov_at = head.len() as u64;
        encode(&writer.movie(Duration::ZERO)?, &mut head)?;
        writer.append(&head)?;
        writer.out.flush()?;
        Ok(writer)
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len + self.fragment_bytes as u64
    }

    pub(crate) fn write_frame(&mut self, frame: &Frame) -> io::Result<()> {
        let Some(index) = self
            .tracks
            .iter()
            .position(|track| track.kind == frame.kind)
        else {
            return Ok(());
        };
        let track = &mut self.tracks[index];
        let ticks = ticks(frame.time, track.timescale);
        if let Some(pending) = track.pending.take() {
            let duration = ticks.saturating_sub(pending.ticks);
            let duration = u32::try_from(duration).unwrap_or(u32::MAX);
            track.samples.push((pending, duration));
        }
        let began = *self.fragment_began.get_or_insert(frame.time);
        let elapsed = frame.time.saturating_sub(began);
        let begins = frame.kind == TrackKind::Video && frame.is_key && elapsed >= FRAGMENT_TIME_MIN;
        let is_full = elapsed >= PART_TIME_MAX
            || self.fragment_bytes.saturating_add(frame.data.len()) > PART_BYTES_MAX;
        if begins || is_full {
            self.write_fragment()?;
            self.fragment_began = Some(frame.time);
        }
        self.fragment_bytes += frame.data.len();
        let track = &mut self.tracks[index];
        track.end = track.end.max(frame.time);
        track.pending = Some(Sample {
            ticks,
            is_key: frame.is_key,
            data: frame.data.clone(),
        });
        Ok(())
    }

    fn write_fragment(&mut self) -> io::Result<()> {
        if self.tracks.iter().all(|track| track.samples.is_empty()) {
            return Ok(());
        }
        self.sequence += 1;
        let sequence = self.sequence;
        let moof_at = self.len;
        let moof = |tracks: &[TrackState], data_offset: usize| {
            let mut offset = data_offset;
            let mut traf = Vec::new();
            for track in tracks {
                let Some((first, _)) = track.samples.first() else {
                    continue;
                };
                traf.push(Traf {
                    tfhd: Tfhd {
                        track_id: track.id,
                        default_base_is_moof: true,
                        ..Tfhd::default()
                    },
                    tfdt: Some(Tfdt {
                        base_media_decode_time: first.ticks,
                    }),
                    trun: vec![Trun {
                        data_offset: i32::try_from(offset).ok(),
                        samples: TrunSamples::Explicit(track.samples.iter().map(entry).collect()),
                    }],
                    ..Traf::default()
                });
                offset += track
                    .samples
                    .iter()
                    .map(|(sample, _)| sample.data.len())
                    .sum::<usize>();
            }
            Moof {
                mfhd: Mfhd {
                    sequence_number: sequence,
                },
                traf,
            }
        };
        // Offsets have a fixed width, so the first attempt tells the length.
        let mut head = Vec::new();
        encode(&moof(&self.tracks, 0), &mut head)?;
        let data_offset = head.len() + 8;
        head.clear();
        encode(&moof(&self.tracks, data_offset), &mut head)?;
        let mut bytes = 0;
        let mut traf_number = 0;
        for track in &mut self.tracks {
            let Some((first, _)) = track.samples.first() else {
                continue;
            };
            traf_number += 1;
            bytes += track
                .samples
                .iter()
                .map(|(sample, _)| sample.data.len())
                .sum::<usize>();
            if first.is_key && track.fragments.len() < CUES_MAX {
                track.fragments.push(FragmentInfo {
                    time: first.ticks,
                    moof_offset: moof_at,
                    traf_number,
                    trun_number: 1,
                    sample_delta: 1,
                });
            }
        }
        let size = u32::try_from(bytes + 8).map_err(io::Error::other)?;
        head.extend(size.to_be_bytes());
        head.extend(b"mdat");
        self.append(&head)?;
        for index in 0..self.tracks.len() {
            for (sample, _) in std::mem::take(&mut self.tracks[index].samples) {
                self.append(&sample.data)?;
            }
        }
        self.fragment_bytes = 0;
        self.out.flush()
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        let mut duration = Duration::ZERO;
        for track in &mut self.tracks {
            let last = match track.kind {
                TrackKind::Video => LAST_VIDEO,
                TrackKind::Audio => LAST_AUDIO,
            };
            if let Some(pending) = track.pending.take() {
                let ticks = ticks(last, track.timescale) as u32;
                track.samples.push((pending, ticks));
                duration = duration.max(track.end + last);
            }
        }
        self.write_fragment()?;
        let tfra = self.tracks.iter_mut().map(|track| Tfra {
            track_id: track.id,
            entries: std::mem::take(&mut track.fragments),
        });
        let mut index = Mfra {
            tfra: tfra.collect(),
            mfro: Mfro { parent_size: 0 },
        };
        let mut bytes = Vec::new();
        encode(&index, &mut bytes)?;
        index.mfro.parent_size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        bytes.clear();
        encode(&index, &mut bytes)?;
        self.append(&bytes)?;
        bytes.clear();
        encode(&self.movie(duration)?, &mut bytes)?;
        self.out.seek(SeekFrom::Start(self.moov_at))?;
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn movie(&self, duration: Duration) -> io::Result<Moov> {
        let mut trak = Vec::new();
        for (track, format) in self.tracks.iter().zip(&self.formats) {
            trak.push(describe(track, format)?);
        }
        Ok(Moov {
            mvhd: Mvhd {
                timescale: MOVIE_TIMESCALE,
                rate: 1.into(),
                volume: 1.into(),
                next_track_id: self.tracks.len() as u32 + 1,
                ..Mvhd::default()
            },
            mvex: Some(Mvex {
                mehd: Some(Mehd {
                    fragment_duration: ticks(duration, MOVIE_TIMESCALE),
                }),
                trex: self
                    .tracks
                    .iter()
                    .map(|track| Trex {
                        track_id: track.id,
                        default_sample_description_index: 1,
                        ..Trex::default()
                    })
                    .collect(),
            }),
            trak,
            ..Moov::default()
        })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

fn entry((sample, duration): &(Sample, u32)) -> TrunEntry {
    TrunEntry {
        duration: Some(*duration),
        size: Some(sample.data.len() as u32),
        flags: Some(if sample.is_key {
            FLAGS_KEY
        } else {
            FLAGS_INTER
        }),
        cts: None,
    }
}

fn ticks(time: Duration, timescale: u32) -> u64 {
    let ticks = time.as_nanos() * u128::from(timescale) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn encode<A: Atom>(atom: &A, out: &mut Vec<u8>) -> io::Result<()> {
    atom.encode(out).map_err(io::Error::other)
}

fn describe(track: &TrackState, format: &TrackFormat) -> io::Result<Trak> {
    let is_video = track.kind == TrackKind::Video;
    let (handler, name): (&[u8; 4], _) = if is_video {
        (b"vide", "video")
    } else {
        (b"soun", "audio")
    };
    Ok(Trak {
        tkhd: Tkhd {
            track_id: track.id,
            enabled: true,
            in_movie: true,
            volume: u8::from(!is_video).into(),
            width: format.width.into(),
            height: format.height.into(),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                timescale: track.timescale,
                language: "und".to_owned(),
                ..Mdhd::default()
            },
            hdlr: Hdlr {
                handler: handler.into(),
                name: name.to_owned(),
            },
            minf: Minf {
                vmhd: is_video.then(Vmhd::default),
                smhd: (!is_video).then(Smhd::default),
                dinf: Dinf {
                    dref: Dref {
                        entries: vec![DrefEntry::Url(Url::default())],
                    },
                },
                stbl: Stbl {
                    stsd: Stsd {
                        codecs: vec![sample_entry(format)?],
                    },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                ..Minf::default()
            },
        },
        ..Trak::default()
    })
}

fn sample_entry(format: &TrackFormat) -> io::Result<mp4_atom::Codec> {
    let visual = Visual {
        data_reference_index: 1,
        width: format.width,
        height: format.height,
        ..Visual::default()
    };
    let mut configuration = &format.configuration[..];
    let vpcc = VpcC {
        profile: format.profile,
        bit_depth: if format.profile >= 2 { 10 } else { 8 },
        chroma_subsampling: 1,
        ..VpcC::default()
    };
    Ok(match format.codec {
        Codec::H264 => mp4_atom::Codec::Avc1(Avc1 {
            visual,
            avcc: Avcc::decode_body(&mut configuration).map_err(io::Error::other)?,
            btrt: None,
            colr: None,
            pasp: None,
            taic: None,
            fiel: None,
            spatial: None,
        }),
        Codec::Av1 => mp4_atom::Codec::Av01(Av01 {
            visual,
            av1c: Av1c::decode_body(&mut configuration).map_err(io::Error::other)?,
            ..Av01::default()
        }),
        Codec::Vp8 => mp4_atom::Codec::Vp08(Vp08 {
            visual,
            vpcc,
            btrt: None,
            colr: None,
            pasp: None,
            spatial: None,
        }),
        Codec::Vp9 => mp4_atom::Codec::Vp09(Vp09 {
            visual,
            vpcc,
            btrt: None,
            colr: None,
            pasp: None,
            spatial: None,
        }),
        _ => mp4_atom::Codec::Opus(Opus {
            audio: Audio {
                data_reference_index: 1,
                channel_count: u16::from(format.channels),
                sample_size: 16,
                sample_rate: 48_000.into(),
            },
            dops: Dops {
                output_channel_count: format.channels,
                pre_skip: 0,
                input_sample_rate: 48_000,
                output_gain: 0,
                channel_mapping: None,
            },
            btrt: None,
        }),
    })
}
