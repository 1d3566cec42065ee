# All of Penstock's images, one target each: operator, dispatcher, worker.
#
#   docker build --target worker -t penstock-worker .
#
# `python3 hack/cluster images` builds the same file on machines without a Docker engine or a
# registry: it passes a base image of its own, and wheels for the packages (hack/image/install.py).

ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

# ---- building: the locked dependencies of each image, and the distribution, apart ----------------
FROM ${BASE_IMAGE} AS build
ENV PYTHONDONTWRITEBYTECODE=1
COPY pyproject.toml requirements.lock /src/
COPY hack/image/install.py hack/image/lockfile.py /src/hack/image/
COPY hack/image/wheels /src/hack/image/wheels

FROM build AS worker-dependencies
RUN python3 /src/hack/image/install.py dependencies

FROM build AS dispatcher-dependencies
RUN python3 /src/hack/image/install.py dependencies --extra dispatcher

FROM build AS operator-dependencies
RUN python3 /src/hack/image/install.py dependencies --extra operator

FROM build AS project
RUN python3 /src/hack/image/install.py compiler
COPY . /src
RUN python3 /src/hack/image/install.py project

# ---- running: no installer, a fixed user without a name's privileges, nothing to write -----------
FROM ${BASE_IMAGE} AS runtime
# The numeric user has an entry, because programs ask for the name of their user.
RUN echo 'penstock:x:65532:' >>/etc/group \
 && echo 'penstock:x:65532:65532:penstock:/tmp:/usr/sbin/nologin' >>/etc/passwd
ENV PATH=/opt/penstock/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title=penstock \
      org.opencontainers.image.licenses=Apache-2.0
WORKDIR /
USER 65532:65532

FROM runtime AS operator
COPY --from=operator-dependencies /opt/penstock /opt/penstock
COPY --from=project /opt/penstock /opt/penstock
ENTRYPOINT ["penstock-operator"]

FROM runtime AS dispatcher
COPY --from=dispatcher-dependencies /opt/penstock /opt/penstock
COPY --from=project /opt/penstock /opt/penstock
ENTRYPOINT ["penstock-dispatcher"]

# What users build on: `FROM …/worker`, then `COPY tasks.py /app/`. Last, so that it is also what
# a build without --target gives.
FROM runtime AS worker
COPY --from=worker-dependencies /opt/penstock /opt/penstock
COPY --from=project /opt/penstock /opt/penstock
ENV PYTHONPATH=/app
WORKDIR /app
ENTRYPOINT ["penstock-worker"]
