# The scorer over HTTP: `callsieve serve` on a bundle, keys and a state folder that are mounted, none of them in the image.
#
#   docker build -t callsieve .
#   docker run --read-only -p 127.0.0.1:8080:8080 \
#     -v ./bundle:/srv/callsieve/bundle:ro -v ./signer.pub:/srv/callsieve/signer.pub:ro \
#     -v ./number.key:/run/secrets/number.key:ro -v ./api.keys:/run/secrets/api.keys:ro \
#     -v callsieve-state:/state callsieve
#
# The two key files are refused unless they are of mode 0600, so they must belong to user 10001. What stands after the
# image's name is added to the options (`--registers /registers`). Nothing is written outside /state.

FROM python:3.13-slim AS build
# The history's kernel is built as C.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
WORKDIR /source
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY .package/callsieve .package/callsieve
COPY features features
COPY serving serving
COPY training training
RUN python -m venv /opt/callsieve
RUN /opt/callsieve/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.13-slim
# LightGBM's library is linked against it.
RUN apt-get update \
  && apt-get install -y --no-install-recommends libgomp1 \
  && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/callsieve /opt/callsieve
# A new volume takes over owner and mode from here.
RUN install -d -o 10001 -g 10001 -m 0700 /state
ENV PATH=/opt/callsieve/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /state
EXPOSE 8080
USER 10001:10001
# No proxy is asked, whatever the environment says: it is this container's own address.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8080/health/live', timeout=3)"]
# 0.0.0.0 is every address of the container: by the default, 127.0.0.1, a published port reaches nobody. Who gets to it is
# what `-p` says.
ENTRYPOINT ["callsieve", "serve", "--host", "0.0.0.0", "--port", "8080", \
  "--bundle", "/srv/callsieve/bundle", "--trust", "/srv/callsieve/signer.pub", \
  "--key", "/run/secrets/number.key", "--keys", "/run/secrets/api.keys", "--state", "/state"]
