# A hospital's image, two roles by command (docker/compose.yaml): the site process and the courier.
#   docker build -f docker/client.Dockerfile -t fedloupe-client .
FROM python:3.11-slim

WORKDIR /opt/fedloupe
COPY constraints.txt ./
COPY shared ./shared
COPY client ./client
RUN python -m pip install --no-cache-dir -c constraints.txt pip \
    && python -m pip install --no-cache-dir -c constraints.txt ./shared './client[courier]' \
    && groupadd --gid 10001 fedloupe \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin fedloupe \
    && install -d -o fedloupe -g fedloupe -m 0700 /run/fedloupe /srv/fedloupe /var/lib/fedloupe-courier \
    && rm -rf shared client

# The root file system is read-only at run time: compiled kernels go to the temporary one.
ENV NUMBA_CACHE_DIR=/tmp/numba HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
CMD ["fedloupe-site", "--help"]
