"""Progress never goes back, never floods, and never follows the result."""

import threading

import pytest

from engine.jobs.progress import CHAINED, SAMPLING, Progress, Report, Sender


def test_the_percentage_never_goes_back() -> None:
    seen: list[Report] = []
    progress = Progress(seen.append)
    progress.stage("download")
    progress.part(90, 100)
    progress.part(10, 100)  # a transfer that began again
    progress.stage("process")
    progress.frames(5, 10)
    progress.stage("upload")
    percents = [report["progress"] for report in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 94


def test_frames_tell_rate_and_time_left() -> None:
    now = [0.0]
    seen: list[Report] = []
    progress = Progress(seen.append, clock=lambda: now[0])
    progress.stage("process")
    now[0] = 2.0
    progress.frames(4, 10)
    assert seen[-1]["fps"] == 2.0
    assert seen[-1]["eta_s"] == 3.0
    assert (seen[-1]["frames_done"], seen[-1]["frames_total"]) == (4, 10)


def test_phases_tell_rate_and_time_left_before_a_frame_is_written() -> None:
    now = [0.0]
    seen: list[Report] = []
    progress = Progress(seen.append, clock=lambda: now[0])
    progress.stage("process")
    progress.phase("encode", 0.0, 75)
    assert seen[-1]["message"] == "encode: frame 1 of 75" and "eta_s" not in seen[-1]
    now[0] = 2.0
    progress.phase("decode", 12.5, 75)
    assert seen[-1] == {
        "stage": "process",
        "progress": 24.0,
        "phase": "decode",
        "frames_done": 0,
        "frames_total": 75,
        "fps": 6.25,
        "eta_s": 10.0,
        "message": "decode: frame 13 of 75",
    }


def test_frames_and_phases_together_never_go_back() -> None:
    seen: list[Report] = []
    progress = Progress(seen.append)
    progress.stage("process")
    progress.phase("color", 4.75, 10)
    for written in range(1, 6):
        progress.frames(written, 10)
    progress.phase("encode", 5, 10)
    progress.phase("color", 11, 10)  # the source held more frames than were expected
    assert [report["progress"] for report in seen] == [10.0, 49.9, 49.9, 49.9, 49.9, 49.9, 52.0, 52.0, 94.0]
    assert [report["frames_done"] for report in seen[1:]] == [0, 1, 2, 3, 4, 5, 5, 5]
    assert seen[6]["phase"] == "color" and seen[6]["message"] == "frame 5 of 10"
    assert seen[-1]["message"] == "color: frame 10 of 10" and seen[-1]["eta_s"] == 0


def test_denoising_steps_tell_the_time_left_with_a_share_for_decoding() -> None:
    now = [0.0]
    seen: list[Report] = []
    progress = Progress(seen.append, clock=lambda: now[0])
    progress.stage("process")
    progress.expect_steps()
    progress.phase("text", 0, 81)
    assert seen[-1]["message"] == "text" and seen[-1]["progress"] == 10.0
    now[0] = 100.0  # what came before the first step says nothing of how long a step takes
    progress.step(0, 50, 81)
    assert seen[-1]["message"] == "step 0 of 50" and "eta_s" not in seen[-1]
    now[0] = 114.0
    progress.step(7, 50, 81)
    assert seen[-1]["eta_s"] == pytest.approx(43 * 2 + 50 * 2 * (1 - SAMPLING) / SAMPLING, abs=0.1)
    assert (seen[-1]["phase"], seen[-1]["message"]) == ("sample", "step 7 of 50")
    assert seen[-1]["progress"] == round(10 + 84 * SAMPLING * 7 / 50, 1)
    assert (seen[-1]["frames_done"], seen[-1]["frames_total"]) == (0, 81)


def test_frames_decoded_after_the_steps_lead_to_the_end_of_the_stage() -> None:
    seen: list[Report] = []
    progress = Progress(seen.append)
    progress.stage("process")
    progress.expect_steps()
    progress.step(0, 2, 5)
    progress.step(2, 2, 5)
    progress.phase("decode", 0, 5)
    for written in range(1, 6):
        progress.frames(written, 5)
    percents = [report["progress"] for report in seen]
    assert percents == sorted(percents) and percents[-1] == 94.0
    assert seen[-1]["message"] == "frame 5 of 5" and seen[-1]["eta_s"] == 0


def test_a_second_stage_of_frames_begins_where_the_first_ended() -> None:
    seen: list[Report] = []
    progress = Progress(seen.append, stages=CHAINED)
    progress.stage("process")
    progress.expect_steps()
    progress.step(4, 4, 5)
    progress.frames(5, 5)
    progress.stage("upscale")
    progress.frames(1, 5)
    assert [report["progress"] for report in seen[-3:]] == [70.0, 70.0, 74.8]
    assert (seen[-1]["stage"], seen[-1]["frames_done"]) == ("upscale", 1)


def test_the_sender_keeps_only_the_latest_report() -> None:
    sent: list[Report] = []
    first, go, second = threading.Event(), threading.Event(), threading.Event()

    def send(report: Report) -> None:
        sent.append(report)
        if first.is_set():
            second.set()
        first.set()
        go.wait(60)

    with Sender(send, interval=0.0) as sender:
        sender({"n": 0})
        assert first.wait(60)
        for n in range(1, 30):
            sender({"n": n})
        go.set()
        assert second.wait(60)
    assert sent == [{"n": 0}, {"n": 29}]


def test_nothing_is_sent_after_close() -> None:
    sent: list[Report] = []
    sender = Sender(sent.append, interval=60)
    with sender:
        sender({"n": 0})
    before = list(sent)
    sender({"n": 1})
    assert sent == before
    assert not sender._thread.is_alive()


def test_a_failed_report_costs_nothing() -> None:
    tried = threading.Event()

    def send(report: Report) -> None:
        tried.set()
        raise ConnectionError("gone")

    with Sender(send) as sender:
        sender({"n": 0})
        assert tried.wait(60)
