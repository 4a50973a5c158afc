ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# For `strip`: half of what the compiled dependencies weigh is for debuggers.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends binutils >/dev/null \
 && rm -rf /var/lib/apt/lists/*
ENV PYTHONDONTWRITEBYTECODE=1
RUN python -m venv --without-pip /opt/importer
WORKDIR /src

# The dependencies first: they change more rarely than the code. Type stubs and C sources serve no program that runs.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
      >requirements.txt \
 && python -m pip --python /opt/importer/bin/python install \
      --no-cache-dir --no-compile -c constraints.txt -r requirements.txt \
 && find /opt/importer -name '*.so' -exec strip --strip-unneeded {} + \
 && find /opt/importer -type f -regex '.*\.\(pyi\|pyx\|pxd\|pxi\|c\|h\)' -delete

COPY README.md ./
COPY importer importer
RUN python -m pip --python /opt/importer/bin/python install --no-cache-dir --no-compile --no-deps .
# What cannot import is not built. And it leaves compiled copies of just what an import needs, the standard library
# included: the official image has none of that, and a root file system that is read-only could keep none.
RUN PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=/opt/importer/pycache \
      /opt/importer/bin/importer demo --directory /tmp/demo

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="importer" \
      org.opencontainers.image.description="Adds millions of contacts to Exotel Campaigns lists, and accounts for every row."
COPY --from=build /opt/importer /opt/importer
# Where the runs' directories go. A new named volume that is mounted here takes over the owner.
RUN install -d -o 65532 -g 65532 /data /data/runs
ENV PATH=/opt/importer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/importer/pycache \
    IMPORTER_RUN__DIRECTORY=/data/runs
WORKDIR /data
USER 65532:65532
STOPSIGNAL SIGTERM
# No HEALTHCHECK: a job is well for as long as it runs, and its exit code says how it ended.
ENTRYPOINT ["importer"]
CMD ["--help"]
