ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# The dependencies first: they change more rarely than the code.
RUN python -m venv /opt/importer
COPY pyproject.toml constraints.txt README.md ./
COPY importer importer
# The packages are all it takes to run: pip itself, and compiled copies of what is never imported, stay behind.
RUN /opt/importer/bin/pip install --no-cache-dir --no-compile -c constraints.txt . \
 && /opt/importer/bin/python -m compileall -q /opt/importer/lib \
 && /opt/importer/bin/pip uninstall -y -q pip \
 && rm -rf /opt/importer/lib/python*/site-packages/setuptools* /opt/importer/lib/python*/site-packages/pkg_resources

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/importer /opt/importer
# The run directory: mount a volume here that the user below may write to.
RUN mkdir -p /data/runs && chown -R 65532:65532 /data
ENV PATH=/opt/importer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    IMPORTER_RUN__DIRECTORY=/data/runs
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["importer"]
CMD ["--help"]
