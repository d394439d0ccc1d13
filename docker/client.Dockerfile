# A hospital's two images: `site` holds the data and no Flower, `courier` holds Flower and sees no data.
#   docker build -f docker/client.Dockerfile --target site -t fedloupe-site .
#   docker build -f docker/client.Dockerfile --target courier -t fedloupe-courier .
# To pin the base for good, give its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build-site
WORKDIR /src
COPY constraints.txt ./
COPY shared ./shared
COPY client ./client
RUN python -m venv /opt/fedloupe \
    && /opt/fedloupe/bin/python -m pip install --no-cache-dir -c constraints.txt pip \
    && /opt/fedloupe/bin/python -m pip install --no-cache-dir -c constraints.txt ./shared ./client

FROM build-site AS build-courier
RUN /opt/fedloupe/bin/python -m pip install --no-cache-dir -c constraints.txt './client[courier]' \
    && /opt/fedloupe/bin/python -m pip uninstall --yes pip

# What both have: a user, and folders that a new volume takes its owner from.
FROM ${BASE} AS base
RUN groupadd --gid 10001 fedloupe \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin fedloupe \
    && install -d -o fedloupe -g fedloupe -m 0700 /run/fedloupe /srv/fedloupe /srv/courier
# The root file system is read-only at run time: compiled kernels go to the temporary one.
ENV PATH=/opt/fedloupe/bin:$PATH NUMBA_CACHE_DIR=/tmp/numba HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 10001:10001

FROM base AS courier
COPY --from=build-courier /opt/fedloupe /opt/fedloupe
# Online at the coordinator, which knows its key; the kit has not expired.
HEALTHCHECK --interval=60s --timeout=30s --start-period=120s --retries=2 \
    CMD ["fedloupe-site", "health", "/srv/courier", "--part", "courier"]
CMD ["fedloupe-site", "courier", "/srv/courier", "--socket", "/run/fedloupe/site.sock", "--log", "json"]

FROM build-site AS strip-site
RUN /opt/fedloupe/bin/python -m pip uninstall --yes pip

FROM base AS site
COPY --from=strip-site /opt/fedloupe /opt/fedloupe
# It answers on its socket, a study is approved, nobody paused it, policy and kit are in force.
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=2 \
    CMD ["fedloupe-site", "health", "/srv/fedloupe", "--part", "site", "--socket", "/run/fedloupe/site.sock"]
CMD ["fedloupe-site", "start", "/srv/fedloupe", "--socket", "/run/fedloupe/site.sock", "--log", "json"]
