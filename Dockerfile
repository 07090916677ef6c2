# The platform's image: web, workers, watcher, beat, gateway, migrations, and the init container that fetches weights.
# What each pod runs is the Helm chart's business (charts/freehold); there is no entry point.
#
#   docker build -t registry.example.com/freehold:0.1.0 .
#
# For a build that can be repeated, pin the base: --build-arg PYTHON_IMAGE=docker.io/library/python@sha256:…

ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The gateway's hot path is compiled here; what that takes stays in this stage.
COPY requirements/build.lock /tmp/build.lock
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m pip install --require-hashes --only-binary :all: --target /opt/build -r /tmp/build.lock
# An environment knows where it lies: it is made where the final image has it.
COPY requirements/platform.lock /tmp/platform.lock
RUN python3 -m venv /app/venv \
 && /app/venv/bin/pip install --require-hashes --only-binary :all: -r /tmp/platform.lock \
 && /app/venv/bin/pip uninstall --yes setuptools pip
COPY manage.py /app/manage.py
COPY platform /app/platform
COPY workers /app/workers
# By the interpreter and among the packages it will run with, or the result would not fit.
RUN PYTHONPATH=/opt/build:/app/platform /app/venv/bin/python -m freehold.gateway.compile
# Settings want values before anything can be collected; these are read by nothing and stay in no layer.
RUN cd /app \
 && env PATH=/app/venv/bin:$PATH DJANGO_SETTINGS_MODULE=freehold.config.settings.production \
        FREEHOLD_STATIC_ROOT=/app/static SECRET_KEY=unused FREEHOLD_ENCRYPTION_KEYS=unused ALLOWED_HOSTS=localhost \
        DATABASE_URL=postgresql://localhost/unused DATABASE_POOL_SIZE=0 REDIS_URL=redis://localhost \
    python manage.py collectstatic --no-input \
 && venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash platform workers manage.py venv/lib \
 && chmod -R a+rX,go-w /app

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Freehold" \
      org.opencontainers.image.description="Sovereign open-weight model hosting for GPU clouds" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The base's pip is of no use at run time, and a help to whoever gets in.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/site-packages/setuptools* \
           /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* /root/.cache
COPY --from=build /app /app
ENV PATH=/app/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app/platform:/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    DJANGO_SETTINGS_MODULE=freehold.config.settings.production \
    FREEHOLD_STATIC_ROOT=/app/static \
    GATEWAY_NATIVE=require
WORKDIR /app
USER 65532:65532
CMD ["python", "/app/manage.py", "help"]
