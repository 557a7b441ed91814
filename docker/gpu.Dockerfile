# verl's own GPU stack. CUDA 13.0 is what the pinned torch is built with.
#   docker build -f docker/gpu.Dockerfile -t mtsql:gpu .
#   docker run --rm --gpus all --shm-size=16g -v "$PWD/runs:/opt/mtsql/runs" mtsql:gpu mtsql doctor
# The devel image, because flash-attn is compiled where no ready wheel fits: that takes a while.
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        g++ git libnuma1 make ninja-build python3 python3-dev python3-venv wget \
    && rm -rf /var/lib/apt/lists/*

# Ubuntu's image brings a user of its own with the id that ours takes.
RUN userdel --remove ubuntu \
    && useradd --create-home --uid 1000 mtsql \
    && install -d -o mtsql -g mtsql /opt/mtsql
USER mtsql
WORKDIR /opt/mtsql
COPY --chown=mtsql:mtsql . .

# Copies instead of links: the cache is on another file system than the image.
# Each compiler job of flash-attn needs several GB of memory.
ARG MAX_JOBS=4
ENV UV_LINK_MODE=copy
RUN --mount=type=cache,target=/home/mtsql/.cache,uid=1000,gid=1000 \
    MAX_JOBS=${MAX_JOBS} python3 docker/bootstrap.py --device gpu

ENV PATH=/opt/mtsql/.venv/bin:$PATH
CMD ["mtsql", "doctor"]
