"""What every test shares: how hypothesis searches."""

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

ROOT = Path(__file__).resolve().parent.parent

# No deadline and no complaint about slowness: machines that run tests are busy. What failed once is
# kept in .hypothesis and tried first the next time; the report shows how to replay it elsewhere.
settings.register_profile(
    "ci",
    derandomize=False,
    deadline=None,
    print_blob=True,
    database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci")
