# One image for the controller and the init container: non-root, without build tools or tests.
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv
WORKDIR /src
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY app app
COPY xds xds
# The pins and their hashes hold for what is installed; extras (tests, a local Envoy) are left out.
RUN python -m venv /opt/osm \
 && uv pip install --python /opt/osm/bin/python --no-cache --constraint requirements.txt .

FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends iptables \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/osm /opt/osm
ENV PATH=/opt/osm/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 1000:3000
ENTRYPOINT ["osm"]
