# One target per set of models: `docker buildx bake wan21-t2v-14b-fp8`; without a name, seedvr2-3b-fp8.
#
#   REPOSITORY=docker.io/me/worker VERSION=0.1.0 docker buildx bake --push seedvr2-3b-fp8
#   HF_TOKEN=hf_... docker buildx bake ...                         for what is published with a gate
#   TORCH_INDEX=https://download.pytorch.org/whl/cu126 VERSION=0.1.0-cu126 docker buildx bake ...    for older drivers
#   docker buildx bake wan21-t2v-14b-fp8 --set '*.args.MODEL_2=lightx2v-t2v-4step'    a LoRA in a layer of its own
#
# What each set weighs, and its licences: `python -m builder.bake --plan MODEL...`.

variable "REPOSITORY" {
  default = "restoration-worker"
}

# Never `latest`: hosts keep images by name, so a worker may be of any age.
variable "VERSION" {
  default = "dev"
}

variable "REVISION" {
  default = ""
}

# Where the code is published, for the image's label.
variable "SOURCE" {
  default = ""
}

variable "BASE_IMAGE" {
  default = "python:3.12-slim-bookworm"
}

# Of torch 2.13: cu130 for sm_75 to sm_120 and drivers from 580, cu126 for sm_50 to sm_90 and older drivers.
variable "TORCH_INDEX" {
  default = "https://download.pytorch.org/whl/cu130"
}

# https://, s3:// or gs:// in place of the publishers. A private one's credentials: MIRROR_ENV, lines of NAME=value.
variable "MIRROR" {
  default = ""
}

# `-convert`: one file per model, in the form that loads fastest.
variable "CONVERT" {
  default = ""
}

# Files of catalogs/ with models of your own.
variable "CATALOG" {
  default = ""
}

# `root`, to whom network volumes belong; `worker`, without rights, where none is written to.
variable "RUN_AS" {
  default = "root"
}

# All of Real-ESRGAN, as MODELS names them: it takes no families, and the first is the default.
variable "REALESRGAN" {
  default = "realesr-animevideov3,realesr-general-x4v3,RealESRGAN_x4plus,RealESRGAN_x2plus,RealESRGAN_x4plus_anime_6B,RealESRNet_x4plus,RealESRGANv2-animevideo-xsx2,RealESRGANv2-animevideo-xsx4"
}

function "tag" {
  params = [name]
  result = ["${REPOSITORY}:${VERSION}-${name}"]
}

group "default" {
  targets = ["seedvr2-3b-fp8"]
}

target "_common" {
  context    = "."
  dockerfile = "Dockerfile"
  platforms  = ["linux/amd64"]
  secret     = ["id=HF_TOKEN,env=HF_TOKEN", "id=MIRROR_ENV,env=MIRROR_ENV"]
  args = {
    BASE_IMAGE  = BASE_IMAGE
    TORCH_INDEX = TORCH_INDEX
    MIRROR      = MIRROR
    CONVERT     = CONVERT
    CATALOG     = CATALOG
    RUN_AS      = RUN_AS
    VERSION     = VERSION
    REVISION    = REVISION
    SOURCE      = SOURCE
  }
}

# No weights: for a network volume or RunPod's cached models. The endpoint's environment says MODELS; without, bundled.
# The same image fills the volume, in a pod that has it at /workspace, by this start command:
#   bash -c "python -m builder.bake MODEL... --into /workspace/models; sleep infinity"
target "base" {
  inherits = ["_common"]
  tags     = tag("base")
  args     = { MODEL_1 = "", MODELS = "bundled" }
}

# The model of the package on a processor alone: the smallest image that does a whole job, for a first try and for CI.
target "bundled" {
  inherits = ["_common"]
  tags     = tag("bundled")
  args     = { MODEL_1 = "", MODELS = "bundled", TORCH_INDEX = "https://download.pytorch.org/whl/cpu" }
}

# One model and the bundled one. A target's name cannot hold a dot; the tag and the model can.
target "one-model" {
  name = replace(model, ".", "-")
  matrix = {
    model = [
      "seedvr2-3b-fp16",
      "seedvr2-3b-fp8",
      "seedvr2-3b-q8",
      "seedvr2-3b-q4",
      "seedvr2-7b-fp16",
      "seedvr2-7b-fp8",
      "seedvr2-7b-q8",
      "seedvr2-7b-q4",
      "seedvr2-7b-sharp-fp16",
      "seedvr2-7b-sharp-fp8",
      "seedvr2-7b-sharp-q8",
      "seedvr2-7b-sharp-q4",
      "wan21-t2v-1.3b",
      "wan21-t2v-14b-fp8",
      "wan21-i2v-480p-fp8",
      "wan21-i2v-720p-fp8",
    ]
  }
  inherits = ["_common"]
  tags     = tag(model)
  args     = { MODEL_1 = model, MODELS = "${model},bundled" }
}

target "realesrgan" {
  inherits = ["_common"]
  tags     = tag("realesrgan")
  args = {
    MODEL_1 = "realesrgan"
    MODELS  = "${REALESRGAN},bundled"
  }
}

# One of each kind, in fp8: 60 GB of weights, which a 48 GB card runs one at a time. RunPod builds images up to 80 GB,
# so the 720P model, which with these would be too much, has an image of its own.
target "all-in-one" {
  inherits = ["_common"]
  tags     = tag("all-in-one")
  args = {
    MODEL_1 = "realesrgan"
    MODEL_2 = "seedvr2-3b-fp8"
    MODEL_3 = "seedvr2-7b-fp8"
    MODEL_4 = "seedvr2-7b-sharp-fp8"
    MODEL_5 = "wan21-t2v-14b-fp8"
    MODEL_6 = "wan21-i2v-480p-fp8"
    MODELS  = "seedvr2-3b-fp8,seedvr2-7b-fp8,seedvr2-7b-sharp-fp8,wan21-t2v-14b-fp8,wan21-i2v-480p-fp8,${REALESRGAN},bundled"
  }
}
