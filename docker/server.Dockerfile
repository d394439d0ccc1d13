# The coordinator's image: SuperLink, executor, proxy and the `fedloupe` command; no client, no patient's data.
#   docker build -f docker/server.Dockerfile -t fedloupe-server .
# To pin the base for good, give its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY constraints.txt ./
COPY shared ./shared
COPY server ./server
# The embedded demo and feature settings are links into configs/.
COPY configs ./configs
RUN python -m venv /opt/fedloupe \
    && /opt/fedloupe/bin/python -m pip install --no-cache-dir -c constraints.txt pip \
    && /opt/fedloupe/bin/python -m pip install --no-cache-dir -c constraints.txt ./shared ./server \
    && /opt/fedloupe/bin/python -m pip uninstall --yes pip

FROM ${BASE}
RUN groupadd --gid 10002 fedloupe \
    && useradd --uid 10002 --gid 10002 --no-create-home --shell /usr/sbin/nologin fedloupe \
    && install -d -o fedloupe -g fedloupe -m 0700 /srv/federation
COPY --from=build /opt/fedloupe /opt/fedloupe
# The app bundle's source, for `fedloupe provision --app /usr/share/fedloupe/app`.
COPY configs/app /usr/share/fedloupe/app
ENV PATH=/opt/fedloupe/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 10002:10002
# Every process is up, the SuperLink answers, the run has not failed.
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s --retries=3 \
    CMD ["fedloupe", "health", "/srv/federation"]
CMD ["fedloupe", "start", "/srv/federation", "--port", "8443", "--metrics-port", "9464", "--log", "json"]
