"""Counting a stream's frames and learning its timing from the packets alone, without decoding."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from engine.errors import SourceTooLarge
from engine.media.info import Ceilings
from engine.media.opening import codec_name

USUAL_RATE = Fraction(25)
"""Assumed where a stream says nothing of its rate."""

LONG_GAP = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Timeline:
    """`broken`: reading failed, or the last packet is a torso. `gap`: when a long hole begins and how long it is."""

    frames: int
    start: Fraction
    duration: Fraction
    fps: Fraction
    variable_rate: bool
    broken: bool
    gap: tuple[Fraction, Fraction] | None = None


def survey(container: InputContainer, stream: VideoStream, ceilings: Ceilings) -> Timeline:
    """Read every packet of the stream. Raises SourceTooLarge at the first frame above a ceiling."""
    base = stream.time_base or Fraction(1, 1)
    times: list[int] = []
    count, last_duration, last_time, broken = 0, 0, None, False
    counts = counted(codec_name(stream))
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            broken = True
            break
        if packet is None:
            break
        if not counts(packet):
            continue
        count, broken = count + 1, packet.is_corrupt
        if count > ceilings.frames:
            raise SourceTooLarge(f"the source has more than {ceilings.frames} frames, the most accepted here")
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            continue
        times.append(time)
        if (time - times[0]) * base > ceilings.seconds:
            raise SourceTooLarge(f"the source lasts more than {ceilings.seconds:g} s, the most accepted here")
        if last_time is None or time >= last_time:
            last_time, last_duration = time, packet.duration or 0
    return _timeline(stream, sorted(times), count, last_duration, base, broken)


def counted(codec: str) -> Callable[[Any], bool]:
    """Tells the packets that become a shown picture from those that do not."""
    return _counts_vp8 if codec == "vp8" else _counts


def _counts(packet: Any) -> bool:
    """Edit lists mark what they cut away as discarded; the packet that flushes a decoder is empty."""
    return bool(packet.size) and not packet.is_discard


def _counts_vp8(packet: Any) -> bool:
    """VP8 stores reference pictures that are never shown as packets of their own: RFC 6386, section 9.1."""
    return _counts(packet) and bool(memoryview(packet)[0] >> 4 & 1)


def _timeline(
    stream: VideoStream, times: list[int], count: int, last_duration: int, base: Fraction, broken: bool
) -> Timeline:
    stated = next((rate for rate in (stream.guessed_rate, stream.average_rate) if rate), USUAL_RATE)
    if len(times) < count or not times:  # raw streams carry no times: they run at the stated rate
        start = times[0] * base if times else Fraction(0)
        return Timeline(count, start, count / stated, stated, False, broken)
    start, end = times[0] * base, times[-1] * base
    fps = _constant_rate(times, base, [stated, *_fitted(times, base)])
    average = fps or stated
    duration = end - start + (last_duration * base or 1 / average)
    if fps is not None:
        return Timeline(count, start, duration, fps, False, broken)
    average = (count / duration).limit_denominator(1001)
    return Timeline(count, start, duration, average, True, broken, _gap(times, base))


def _gap(times: list[int], base: Fraction) -> tuple[Fraction, Fraction] | None:
    """The longest hole in a stream that is otherwise even: half a second or more where hardly any step differs."""
    steps = [after - before for before, after in pairwise(times)]
    usual, longest = sorted(steps)[len(steps) // 2], max(steps)
    even = sum(abs(step - usual) <= 1 for step in steps) >= 0.9 * len(steps)
    if not even or longest * base < LONG_GAP or longest < 4 * usual:
        return None
    return (times[steps.index(longest)] - times[0]) * base, longest * base


def _fitted(times: list[int], base: Fraction) -> list[Fraction]:
    """The rate that the first and last time give, exact and rounded to a usual one."""
    if times[-1] == times[0]:
        return []
    exact = (len(times) - 1) / ((times[-1] - times[0]) * base)
    return [Fraction(round(exact)), Fraction(round(exact * 1001 / 1000) * 1000, 1001), exact.limit_denominator(1001)]


def _constant_rate(times: list[int], base: Fraction, candidates: list[Fraction]) -> Fraction | None:
    """The first candidate that explains every time up to the rounding of the time base."""
    for rate in candidates:
        if rate <= 0:
            continue
        step, origin = float(1 / (rate * base)), times[0]
        if all(abs(time - origin - index * step) <= 1 for index, time in enumerate(times)):
            return rate
    return None
