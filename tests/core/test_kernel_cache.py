"""Where compiled kernels are kept if neither the installation nor the home of the user can be written."""

import os
import stat
import subprocess
import sys

import pytest

from histomri.core import kernel_cache

UNWRITABLE = """
import numba.core.caching as caching
def refuse(self):
    raise OSError("read-only")
for kind in (caching.InTreeCacheLocator, caching.UserWideCacheLocator):
    kind.ensure_cache_path = refuse
from histomri.fitting import kernels
from histomri.simulation import section, spheres
print(kernels.FIT_VOXELS[0].stats.cache_path)
"""


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users to tell apart")
def test_a_temporary_folder_takes_the_cache(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    call = [sys.executable, "-c", UNWRITABLE]
    done = subprocess.run(
        call, env=environment | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / f"histomri-numba-{os.getuid()}"
    assert done.stdout.startswith(str(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users to tell apart")
def test_a_folder_that_others_can_write_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"histomri-numba-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    found = kernel_cache._temporary_folder()
    assert found != folder and found.parent == tmp_path
    folder.chmod(0o700)
    assert kernel_cache._temporary_folder() == folder
