"""What importing storage costs: the clouds' libraries come when a job needs them."""

import subprocess
import sys


def test_importing_storage_imports_no_clouds_library() -> None:
    code = (
        "import sys, engine.storage.fetch, engine.storage.deliver; "
        "print([m for m in ('boto3', 'botocore', 's3transfer', 'google.cloud', 'torch', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
