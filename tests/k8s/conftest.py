import pytest

from tests.support.overlays import OVERLAYS, SCALED, WITH_KEDA, render


@pytest.fixture(params=OVERLAYS)
def objects(request):
    return render(request.param)


@pytest.fixture(params=SCALED)
def scaled(request):
    """The overlays in which an autoscaler says how many workers a group has."""
    return render(request.param)


@pytest.fixture(params=WITH_KEDA)
def keda(request):
    return render(request.param)
