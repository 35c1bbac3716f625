# One image for the controller and the init container: non-root, without build tools or tests.
# `make image` makes the same files without an engine: both ways run image/rootfs.py.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY app app
COPY xds xds
COPY image image
COPY manifests manifests
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements.txt \
 && /opt/build/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/build/bin/python image/rootfs.py /rootfs

FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends iptables \
 && rm -rf /var/lib/apt/lists/* \
 && python -m pip uninstall -y setuptools wheel pip
COPY --from=build /rootfs /
ARG GIT_COMMIT="" BUILD_DATE=""
ENV OSM_GIT_COMMIT=$GIT_COMMIT OSM_BUILD_DATE=$BUILD_DATE PYTHONDONTWRITEBYTECODE=1
USER 1000:3000
ENTRYPOINT ["osm"]
