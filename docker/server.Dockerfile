# The coordinator's image: SuperLink, executor and the `fedloupe` command; it holds no client and no patient's data.
#   docker build -f docker/server.Dockerfile -t fedloupe-server .
FROM python:3.11-slim

WORKDIR /opt/fedloupe
COPY constraints.txt ./
COPY shared ./shared
COPY server ./server
# The embedded demo and feature settings are links into configs/.
COPY configs ./configs
RUN python -m pip install --no-cache-dir -c constraints.txt pip \
    && python -m pip install --no-cache-dir -c constraints.txt ./shared ./server \
    && groupadd --gid 10002 fedloupe \
    && useradd --uid 10002 --gid 10002 --no-create-home --shell /usr/sbin/nologin fedloupe \
    && install -d -o fedloupe -g fedloupe -m 0700 /var/lib/fedloupe \
    && rm -rf shared server

ENV FLWR_HOME=/var/lib/fedloupe/flower FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 \
    HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 10002:10002
CMD ["fedloupe", "--help"]
