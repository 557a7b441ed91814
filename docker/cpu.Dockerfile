# The whole stack on a machine without a GPU.
#   docker build -f docker/cpu.Dockerfile -t mtsql:cpu .
#   docker run --rm --shm-size=2g -v "$PWD/runs:/opt/mtsql/runs" mtsql:cpu mtsql train recipes/demo_cpu.yaml
FROM python:3.11-slim-bookworm

# The compiler serves torch.compile inside vLLM; wget serves Kubernetes' probes of Ray.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git libnuma1 make wget \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 mtsql \
    && install -d -o mtsql -g mtsql /opt/mtsql
USER mtsql
WORKDIR /opt/mtsql
COPY --chown=mtsql:mtsql . .

# Copies instead of links: the cache is on another file system than the image.
ENV UV_LINK_MODE=copy
RUN --mount=type=cache,target=/home/mtsql/.cache,uid=1000,gid=1000 \
    python3 docker/bootstrap.py --device cpu

ENV PATH=/opt/mtsql/.venv/bin:$PATH
CMD ["mtsql", "doctor"]
