"""The real worker on a device that fails for good in the middle of a job."""

import handler
from engine.pipelines.esrgan import Esrgan


def lose_the_device(self: Esrgan, *args: object) -> object:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


if __name__ == "__main__":
    Esrgan.__call__ = lose_the_device  # type: ignore[method-assign, assignment]
    handler.main()
