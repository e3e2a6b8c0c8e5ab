"""What a caller may put in `input`, and what it is told when it is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidInput, Problem
from engine.jobs.fields import names
from engine.jobs.outputs import BucketDestination, PutDestination, VolumeDestination
from engine.jobs.requests import (
    REQUESTS,
    GenerateRequest,
    InfoRequest,
    OffloadRequest,
    Request,
    UpscaleRequest,
    WarmRequest,
    parse,
)
from engine.jobs.upscale_fields import OF_FAMILY, foreign_fields

CLIP = "https://example.com/clip.mp4"


def ask(**fields: Any) -> Request:
    return parse({"id": "job-1", "input": fields})


def upscale(**fields: Any) -> UpscaleRequest:
    request = ask(**{"source": CLIP, **fields})
    assert isinstance(request, UpscaleRequest)
    return request


def generate(**fields: Any) -> GenerateRequest:
    request = ask(**fields)
    assert isinstance(request, GenerateRequest)
    return request


def refused(**fields: Any) -> dict[str, str]:
    """What is told about each field."""
    with pytest.raises(InvalidInput) as caught:
        ask(**fields)
    return {problem.field: problem.text for problem in caught.value.problems}


# ---- actions and envelope


def test_the_smallest_job_is_an_address() -> None:
    request = upscale()
    assert request.action == "upscale"
    assert request.source == CLIP
    assert (request.media, request.seed, request.crf, request.batch_size, request.dry_run) == (
        "auto",
        42,
        16,
        "auto",
        False,
    )


@pytest.mark.parametrize(
    "job", [{}, {"input": None}, {"input": {}}, {"input": {"input": {}}}, {"input": {"input": None}}]
)
def test_an_empty_input_is_told_what_the_smallest_one_is(job: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(job)
    assert caught.value.field == "input"
    assert caught.value.hint is not None
    smallest = caught.value.hint.removeprefix("the smallest input is ").split(";")[0]
    assert parse({"input": json.loads(smallest)}).action == "upscale"


def test_an_input_wrapped_twice_is_unwrapped() -> None:
    assert parse({"input": {"input": {"source": CLIP}}}) == upscale()


@pytest.mark.parametrize("given", [[], "text", 5, True, [{"source": CLIP}]])
def test_an_input_that_is_no_object_is_refused(given: object) -> None:
    with pytest.raises(InvalidInput, match="input: must be an object, not"):
        parse({"input": given})


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"action": "info"}, InfoRequest),
        ({"action": "WARM", "model": "bundled"}, WarmRequest),
        ({"action": "offload"}, OffloadRequest),
        ({"action": "upscale", "source": CLIP}, UpscaleRequest),
        ({"prompt": "a cat"}, GenerateRequest),
        ({"task": "i2v", "image": CLIP}, GenerateRequest),
    ],
)
def test_each_action_has_its_request(fields: dict[str, Any], kind: type[Request]) -> None:
    assert type(ask(**fields)) is kind


def test_an_unknown_action_is_refused_with_the_nearest() -> None:
    assert refused(action="upscail") == {
        "action": "must be `upscale`, `generate`, `estimate`, `info`, `warm` or `offload`, not `upscail`; "
        "did you mean `upscale`?"
    }
    assert "not a number" in refused(action=3)["action"]


def test_estimate_is_a_dry_run_of_what_it_is_about() -> None:
    assert upscale(action="estimate").dry_run
    assert upscale(dry_run=True).dry_run
    assert generate(action="estimate", prompt="a cat").dry_run
    assert "estimate" in refused(action="estimate", source=CLIP, dry_run=False)["dry_run"]


def test_null_counts_as_not_given() -> None:
    assert upscale(resolution=None, prompt=None, batch_size=None) == upscale()


def test_a_request_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        upscale().seed = 3


# ---- names


CONTRACT = """
    video image file url video_url image_url source_video_url input_url video_base64 image_base64 source_video_base64
    type skip_first_frames load_cap dit_model model_name model_id target_resolution short_edge res_h res_w
    upscale_factor scale sr_ratio max_resolution color_fix vae_encode_tile_size num_frames length frame_num
    duration_seconds num_inference_steps sample_steps guidance_scale cfg sample_guide_scale flow_shift sample_shift
    sample_solver container format
"""


def every_alias() -> list[tuple[str, str, str]]:
    return [
        (action, other, name)
        for action, model in REQUESTS.items()
        for other, name in names(model).items()
        if other != name and name != "s3_config"
    ]


VALUES: dict[str, Any] = {
    "source": CLIP,
    "source_base64": "aGVsbG8=",
    "media": "video",
    "model": "bundled",
    "image": CLIP,
    "video": CLIP,
    "output_format": "mkv",
    "color_correction": "hsv",
    "solver": "euler",
    "resolution": 720,
    "vae_tile_size": 512,
}


@pytest.mark.parametrize(("action", "other", "name"), every_alias())
def test_an_alias_is_as_good_as_the_name(action: str, other: str, name: str) -> None:
    least: dict[str, dict[str, Any]] = {"upscale": {"source": CLIP}, "generate": {"prompt": "a cat"}}
    fields = dict(least.get(action, {}))
    if name.startswith("source"):
        fields = {}
    value = VALUES.get(name, 32)
    if name in ("outscale", "guidance", "shift"):
        value = 2.5
    one, two = ask(action=action, **fields, **{other: value}), ask(action=action, **fields, **{name: value})
    assert one == two
    assert getattr(one, name) == value


def test_the_aliases_are_the_contracts() -> None:
    aliases = {other for _, other, _ in every_alias()}
    assert aliases >= set(CONTRACT.split())


def test_two_names_of_one_field_must_agree() -> None:
    assert upscale(source=CLIP, url=CLIP) == upscale()
    assert refused(source=CLIP, url="https://example.com/other.mp4") == {
        "url": "differs from `source`, which is the same field: give one of them"
    }


def test_an_unknown_field_is_told_the_nearest_one() -> None:
    told = refused(source=CLIP, resolutoin=720)
    assert told == {"resolutoin": "unknown field `resolutoin`; did you mean `resolution`?"}


def test_a_field_of_another_action_is_told_so() -> None:
    assert "belongs to action `generate`" in refused(source=CLIP, guidance_scale=5)["guidance_scale"]
    assert "belongs to action `upscale`" in refused(prompt="a cat", outscale=2)["outscale"]
    assert "belongs to action `upscale`" in refused(action="info", source=CLIP)["source"]


# ---- values


def test_all_wrong_fields_are_told_at_once_by_the_names_that_were_used() -> None:
    told = refused(url=5, res_h="tall", crf=99, batch_size=2.5, colour="lab", codec="theora", seed=True)
    assert told.keys() == {"url", "res_h", "crf", "batch_size", "colour", "codec", "seed"}
    assert told["crf"] == "must be a whole number from 0 to 51, not 99"
    assert told["batch_size"] == "must be `auto` or a whole number from 1 to 1000000, not 2.5"
    assert told["codec"] == "must be `h264`, `hevc`, `av1`, `vp9` or `prores`, not `theora`"
    assert told["seed"] == "must be a whole number from 0 to 9007199254740991, not true"
    assert told["res_h"] == "must be a whole number from 16 to 32768, not `tall`"


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("batch_size", 0, "must be `auto` or a whole number from 1 to 1000000, not 0"),
        ("batch_size", -3, "must be `auto` or a whole number from 1 to 1000000, not -3"),
        ("temporal_overlap", -1, "must be `auto` or a whole number from 0 to 1024, not -1"),
        ("seed", 2**64, "must be a whole number from 0 to 9007199254740991, not a number that large"),
        ("seed", -1, "must be a whole number from 0 to 9007199254740991, not -1"),
    ],
)
def test_a_number_out_of_range_is_told_the_range(field: str, value: int, sentence: str) -> None:
    assert refused(source=CLIP, **{field: value}) == {field: sentence}


def test_a_batch_larger_than_any_memory_is_left_to_the_plan() -> None:
    assert upscale(batch_size=10_000).batch_size == 10_000


@pytest.mark.parametrize(
    ("fields", "tiles"),
    [
        ({}, (1024, 128)),
        ({"vae_quality": "low"}, (512, 64)),
        ({"vae_quality": "medium"}, (768, 96)),
        ({"vae_quality": "low", "vae_tile_size": 640}, (640, 80)),
        ({"vae_tile_size": 64}, (64, 8)),
        ({"vae_quality": "low", "vae_tile_overlap": 0}, (512, 0)),
    ],
    ids=str,
)
def test_tiles_come_from_the_quality_unless_they_are_given(fields: dict[str, Any], tiles: tuple[int, int]) -> None:
    assert upscale(**fields).vae_tiles == tiles


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"vae_tile_size": 512, "vae_tile_overlap": 512},
            "must be less than the tile, which is 512 pixels by `vae_tile_size`",
        ),
        (
            {"vae_quality": "low", "vae_tile_overlap": 512},
            "must be less than the tile, which is 512 pixels by `vae_quality`",
        ),
        ({"vae_tile_overlap": 1024}, "must be less than the tile, which is 1024 pixels by `vae_quality`"),
    ],
    ids=str,
)
def test_an_overlap_that_fills_its_tile_is_refused(fields: dict[str, Any], sentence: str) -> None:
    assert refused(source=CLIP, **fields) == {"vae_tile_overlap": sentence}


@pytest.mark.parametrize("text", ["true", "False"])
def test_a_text_that_reads_like_a_boolean_is_told_from_one(text: str) -> None:
    told = refused(source=CLIP, dry_run=text)
    assert told == {"dry_run": f'must be `true` or `false`, not the text `"{text}"`'}


@pytest.mark.parametrize("value", [True, "3", float("nan"), float("inf"), -float("inf"), [], {}, 10**400])
def test_what_is_no_number_is_no_number(value: object) -> None:
    told = refused(source=CLIP, outscale=value, prepend_frames=value, tile=value, start=value)
    assert told.keys() == {"outscale", "prepend_frames", "tile", "start"}


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert upscale(batch_size=5.0, output_dims=[640.0, 480]).batch_size == 5
    assert "batch_size" in refused(source=CLIP, batch_size=5.5)


def test_digits_in_a_text_are_numbers_only_for_sizes() -> None:
    request = upscale(res_h="2160", res_w="3840", resolution="1080")
    assert (request.height, request.width, request.resolution) == (2160, 3840, 1080)
    assert refused(source=CLIP, resolution="8", batch_size="5").keys() == {"resolution", "batch_size"}


def test_a_resolution_may_be_a_word() -> None:
    assert [upscale(resolution=r).short_edge for r in (333, "720p", "4K", "8k")] == [333, 720, 2160, 4320]
    assert upscale().short_edge is None


def test_a_choice_may_be_written_in_capitals() -> None:
    assert upscale(codec="HEVC", output_format="MKV").codec == "hevc"


def test_a_choice_written_wrong_is_told_the_nearest_one() -> None:
    told = refused(source=CLIP, color_fix="wavelett", resolution="1081p", batch_size="Autom", destination="inlin")
    assert told["color_fix"].endswith("or `none`, not `wavelett`; did you mean `wavelet`?")
    assert told["resolution"].endswith("not `1081p`; did you mean `1080p`?")
    assert told["batch_size"].endswith("not `autom`; did you mean `auto`?")
    assert "inlin`" not in told["destination"]


def test_output_dims_are_two_whole_numbers() -> None:
    assert upscale(output_dims=[33, 17]).output_dims == (33, 17)
    for value in ([0, 480], [640], [640, 480, 3], "640x480", [640.5, 480], ["640", "480"], [True, True]):
        assert "two whole numbers" in refused(source=CLIP, output_dims=value)["output_dims"]


@pytest.mark.parametrize("name", ["", " ", "..", "a/b.mp4", "..\\b.mp4", "/etc/passwd", "a\x00.mp4", "C:x", "x" * 300])
def test_a_file_name_has_no_path_parts(name: str) -> None:
    assert refused(source=CLIP, filename=name).keys() == {"filename"}


def test_a_file_name_may_be_in_any_language() -> None:
    assert upscale(filename="映画 – été.mp4").filename == "映画 – été.mp4"


@pytest.mark.parametrize("address", ["", "  ", "ftp://example.com/a.mp4", "file:///etc/passwd", "https://a/\r\nb"])
def test_addresses_that_no_transport_reads_are_refused(address: str) -> None:
    assert refused(source=address).keys() == {"source"}


@pytest.mark.parametrize(
    "address", ["http://a/b", "s3://bucket/key", "gs://bucket/key", "data:video/mp4;base64,AAAA", "in/a clip.mp4"]
)
def test_addresses_of_every_transport_are_taken(address: str) -> None:
    assert upscale(source=address).source == address


def test_half_a_character_is_no_text() -> None:
    assert refused(source="a\ud800", filename="b\udfff").keys() == {"source", "filename"}
    assert refused(prompt="\ud83d").keys() == {"prompt"}


# ---- fields of one kind of model


def test_only_a_mixed_model_knows_denoise_strength() -> None:
    assert "denoise_strength" in foreign_fields("esrgan")
    assert foreign_fields("esrgan", mixed=True) == OF_FAMILY["seedvr2"]
    assert foreign_fields("seedvr2", mixed=True) == foreign_fields("seedvr2") == OF_FAMILY["esrgan"]
    assert foreign_fields("wan") == OF_FAMILY["seedvr2"] | OF_FAMILY["esrgan"]


# ---- contradictions


@pytest.mark.parametrize(
    ("fields", "blamed"),
    [
        ({}, "source"),
        ({"source": CLIP, "source_base64": "AAAA"}, "source"),
        ({"source": CLIP, "start": 5, "end": 5}, "start"),
        ({"source": CLIP, "start": 5, "skip_frames": 3}, "start"),
        ({"source": CLIP, "end": 5, "max_frames": 3}, "end"),
        ({"source": CLIP, "vae_tile_size": 512, "vae_tile_overlap": 512}, "vae_tile_overlap"),
        ({"source": CLIP, "batch_size": 5, "temporal_overlap": 5}, "temporal_overlap"),
        ({"source": CLIP, "codec": "h264", "output_format": "png"}, "codec"),
        ({"source": CLIP, "max_edge": 3}, "max_edge"),
        ({"source": CLIP, "tile": 3}, "tile"),
        ({"prompt": "a cat", "frames": 81, "duration": 5}, "duration"),
        ({"prompt": " "}, "prompt"),
        ({"task": "t2v"}, "prompt"),
        ({"task": "i2v", "prompt": "a cat"}, "image"),
        ({"task": "v2v", "prompt": "a cat"}, "video"),
        ({"task": "t2v", "prompt": "a cat", "image": CLIP}, "image"),
        ({"prompt": "a cat", "image": CLIP, "video": CLIP}, "image"),
        ({"prompt": "a cat", "image": CLIP, "image_base64": "AAAA"}, "image"),
        ({"prompt": "a cat", "size": "832*480", "width": 640, "height": 480}, "size"),
        ({"prompt": "a cat", "width": 640}, "width"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], blamed: str) -> None:
    assert refused(**{"action": None, **fields} if fields else {"seed": 1}).keys() == {blamed}


def test_contradictions_are_told_beside_wrong_fields() -> None:
    told = refused(url=CLIP, start=5, end=3, crf=99)
    assert told == {
        "crf": "must be a whole number from 0 to 51, not 99",
        "start": "must be before `end`, but 5 is not before 3",
    }


def test_a_wrong_field_is_not_told_twice() -> None:
    assert refused(source_base64=5).keys() == {"source_base64"}
    assert refused(source=CLIP, start="x", end=3).keys() == {"start"}


def test_a_contradiction_uses_the_callers_names() -> None:
    assert refused(url=CLIP, video_base64="AAAA") == {"url": "is given besides `video_base64`: give one of them"}


# ---- generate


def test_the_task_follows_from_what_is_given() -> None:
    assert generate(prompt="a cat").kind == "t2v"
    assert generate(prompt="a cat", image=CLIP).kind == "i2v"
    assert generate(prompt="", video=CLIP).kind == "v2v"
    assert generate(action="generate", image_base64="AAAA").kind == "i2v"


def test_a_size_is_written_in_two_ways() -> None:
    assert generate(prompt="a cat", size="832*480").dims == (832, 480)
    assert generate(prompt="a cat", size="1280x720").dims == (1280, 720)
    assert generate(prompt="a cat", width=832, height=480).dims == (832, 480)
    assert generate(prompt="a cat").dims is None


def test_an_edge_that_is_no_multiple_of_16_is_told_its_neighbours() -> None:
    told = refused(prompt="a cat", width=830, height=490)
    assert told == {
        "width": "must be a multiple of 16 up to 4096, not 830: 816 and 832 are",
        "height": "must be a multiple of 16 up to 4096, not 490: 480 and 496 are",
    }
    size = refused(prompt="a cat", size="830*480")["size"]
    assert size == "must be multiples of 16 up to 4096, which 830 is not: 816 and 832 are"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"frames": 0}, "from 1 to 1000"),
        ({"frames": 100_000}, "from 1 to 1000, not 100000"),
        ({"width": 7680, "height": 4320}, "a multiple of 16 up to 4096, not 7680"),
        ({"size": "7680*4320"}, "multiples of 16 up to 4096"),
        ({"size": "8*8"}, "multiples of 16 up to 4096"),
        ({"guidance": 0.5}, "from 1 to 20, not 0.5"),
        ({"guidance": 30}, "from 1 to 20, not 30"),
        ({"strength": 1.5}, "from 0 to 1, not 1.5"),
        ({"steps": 0}, "from 1 to 100, not 0"),
        ({"duration": 0}, "above 0"),
        ({"prompt": "a" * 50_001}, "at most 50000 characters"),
    ],
    ids=str,
)
def test_what_no_video_can_be_made_of_is_told_what_would_be_right(fields: dict[str, Any], told: str) -> None:
    assert told in refused(**{"prompt": "a cat", **fields})[next(iter(fields))]


@pytest.mark.parametrize("prompt", ["word " * 5000, "a cat 🐈 кошка 猫 قطة", "&amp;amp; \u200d"])
def test_prompts_of_any_length_and_script_are_taken(prompt: str) -> None:
    assert generate(prompt=prompt).prompt == prompt


def test_the_smallest_and_the_largest_size_are_taken() -> None:
    assert generate(prompt="a cat", width=16, height=16).dims == (16, 16)
    assert generate(prompt="a cat", size="4096*4096").dims == (4096, 4096)


def test_loras_are_named_with_a_strength() -> None:
    request = generate(prompt="a cat", loras=[{"name": "fast"}, {"name": "film", "strength": -0.5}])
    assert [(lora.name, lora.strength) for lora in request.loras] == [("fast", 1.0), ("film", -0.5)]
    assert len(generate(prompt="a cat", loras=[{"name": f"lora-{n}"} for n in range(8)]).loras) == 8
    assert generate(prompt="a cat", loras=[]).loras == ()


@pytest.mark.parametrize(
    ("loras", "told"),
    [
        ([{"strength": 1}], {"loras[0].name": "is required"}),
        ([{"name": "a"}, {"name": "b", "strenght": 1}], {"loras[1].strenght": "did you mean `strength`?"}),
        ([{"name": "a", "strength": 5}], {"loras[0].strength": "from -4 to 4, not 5"}),
        (["a"], {"loras[0]": "must be an object, not a text of 1 characters"}),
        ([{"name": "a"}, {"name": "a"}], {"loras": "names `a` more than once"}),
        ([{"name": f"lora-{n}"} for n in range(9)], {"loras": "at most 8 objects"}),
        ({"name": "a"}, {"loras": "a list of at most 8"}),
        ("a", {"loras": "a list of at most 8"}),
    ],
    ids=str,
)
def test_loras_that_are_wrong_are_told_which(loras: Any, told: dict[str, str]) -> None:
    found = refused(prompt="a cat", loras=loras)
    assert found.keys() == told.keys()
    assert all(text in found[field] for field, text in told.items())


def test_the_result_may_be_enlarged_in_the_same_job() -> None:
    request = generate(prompt="a cat", upscale={"dit_model": "bundled", "res_h": "1080"})
    assert request.upscale is not None
    assert (request.upscale.model, request.upscale.height) == ("bundled", 1080)
    told = refused(prompt="a cat", upscale={"resolutoin": 3, "crf": 3, "seed": -3}, steps=0)
    assert told.keys() == {"upscale.resolutoin", "upscale.crf", "upscale.seed", "steps"}


# ---- destinations and secrets


def test_destinations_are_told_apart_by_their_key() -> None:
    assert upscale(destination="inline").destination == "inline"
    assert upscale(destination={"bucket": "s3://b/p", "key": "a/b.mp4"}).destination == BucketDestination(
        bucket="s3://b/p", key="a/b.mp4"
    )
    assert upscale(destination={"put_url": "https://a/b?sig=1"}).destination == PutDestination(
        put_url="https://a/b?sig=1"
    )
    assert upscale(destination={"volume": "results"}).destination == VolumeDestination(volume="results")


@pytest.mark.parametrize(
    ("destination", "blamed"),
    [
        ("here", "destination"),
        ({}, "destination.bucket"),
        ({"bucket": "https://a/b"}, "destination.bucket"),
        ({"bucket": "s3://b", "key": "../../x"}, "destination.key"),
        ({"bucket": "s3://b", "key": "/x"}, "destination.key"),
        ({"bucket": "s3://b", "put_url": "https://a/b"}, "destination.put_url"),
        ({"put_url": "ftp://a"}, "destination.put_url"),
        ({"volume": "../x"}, "destination.volume"),
        ({"buket": "s3://b"}, "destination.buket"),
    ],
)
def test_a_wrong_destination_names_its_part(destination: object, blamed: str) -> None:
    assert blamed in refused(source=CLIP, destination=destination)


def test_a_part_of_another_destination_is_told_what_it_does_not_go_with() -> None:
    assert refused(source=CLIP, destination={"key": "x", "volume": "sub"}) == {
        "destination.key": "unknown field `key`; it does not go with `volume`"
    }
    assert refused(source=CLIP, destination={"bucket": None, "key": "x", "put_url": "https://a/b"}) == {
        "destination.key": "unknown field `key`; it does not go with `put_url`"
    }


def test_s3_config_stands_beside_the_input() -> None:
    config = {
        "accessId": "AKIAEXAMPLE",
        "accessSecret": "hush-hush",
        "bucketName": "results",
        "endpointUrl": "https://s3.example.com",
    }
    request = parse({"input": {"source": CLIP}, "s3Config": config})
    assert isinstance(request, UpscaleRequest)
    assert request.s3_config is not None
    assert request.s3_config.access_secret.get_secret_value() == "hush-hush"
    assert request.s3_config.endpoint_url == "https://s3.example.com"
    assert parse({"input": {"action": "info"}, "s3Config": config}).action == "info"


def test_a_wrong_s3_config_is_told_by_its_own_names() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({"input": {"source": CLIP}, "s3Config": {"accessId": "a", "accessSecret": 12345, "endpointUrl": "x"}})
    assert [p.field for p in caught.value.problems] == ["s3Config.accessSecret", "s3Config.endpointUrl"]
    assert "12345" not in caught.value.message


def test_no_secret_and_no_content_is_ever_repeated() -> None:
    secret = "c2VjcmV0" * 50
    for job in (
        {"input": {"source": f"ftp://example.com/?sig={secret}"}},
        {"input": {"source": [secret]}},
        {"input": {"source_base64": {"a": secret}}},
        {"input": {"source": CLIP, "destination": {"put_url": secret}}},
        {"input": {"source": CLIP, "destination": secret}},
        {"input": {"source": CLIP, "destination": {"bucket": secret}}},
        {"input": {"source": CLIP}, "s3Config": {"accessId": 1, "accessSecret": [secret], "bucketName": 2}},
        {"input": {"source": CLIP}, "s3Config": secret},
        {"input": {"prompt": "x", "image": 3, "image_base64": [secret]}},
    ):
        with pytest.raises(InvalidInput) as caught:
            parse(job)
        assert "c2VjcmV0" not in json.dumps(caught.value.reply()), job
    assert secret not in repr(upscale(source="data:video/mp4;base64," + secret))


def test_no_word_of_pydantic_reaches_the_caller() -> None:
    told = refused(source=CLIP, seed="x", start=-1, destination=3, resolution=3, codec=3, temporal="yes", preset=1)
    assert len(told) == 7
    for text in told.values():
        assert "Input should" not in text
        assert text.startswith("must be ")


def test_a_long_message_stays_short() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({"input": {"source": CLIP, "codec": "x" * 10**6, **{f"field{i}" * 1000: i for i in range(1000)}}})
    assert len(caught.value.message) < 4000
    assert Problem("input", "990 more unknown fields") in caught.value.problems


def test_parsing_is_light_on_imports() -> None:
    code = "import sys, engine.jobs.requests; print(*sorted(m for m in sys.modules if '.' not in m))"
    root = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert not {"torch", "numpy", "boto3", "av", "PIL", "google", "runpod", "requests"} & set(loaded.split())


@pytest.mark.parametrize(("given", "codec"), [("h265", "hevc"), ("X264", "h264"), ("avc", "h264")])
def test_a_codec_goes_by_its_other_names(given: str, codec: str) -> None:
    assert parse({"input": {"source": CLIP, "codec": given, "format": ".MP4"}}).codec == codec
