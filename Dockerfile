# The programs sweeps, lander and mlflow, for one machine or for the workers of many:
#   docker build --tag lander-sweeps .
#   docker run --rm --volume sweeps:/store lander-sweeps run --study smoke
# PyPI has torch for Linux with CUDA. For the CPU build, 3 GB less (docs/install.md, "CPU only"):
#   docker build --tag lander-sweeps --build-arg PIP_ARGS='--extra-index-url ADDRESS' .
FROM python:3.13-slim

ARG PIP_ARGS=
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY lander lander
COPY sweeps sweeps
COPY analysis analysis
RUN pip install --no-cache-dir --constraint constraints.txt $PIP_ARGS '.[cluster]'

# Records are in /store/mlruns; the user of the programs may write nowhere else.
RUN useradd --uid 10001 --home-dir /store --create-home sweeper
USER 10001:10001
WORKDIR /store
VOLUME /store
ENTRYPOINT ["sweeps"]
CMD ["--help"]
