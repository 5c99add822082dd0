import pytest

from tests.support.overlays import OVERLAYS, WITH_KEDA, render


@pytest.fixture(params=OVERLAYS)
def objects(request):
    return render(request.param)


@pytest.fixture(params=WITH_KEDA)
def keda(request):
    return render(request.param)
