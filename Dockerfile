# The scorer as an HTTP service. Bundle, keys and state folder are mounted; the image contains none of them.
#
#   docker build -t callsieve .
#   docker run --read-only -p 127.0.0.1:8080:8080 \
#     -v ./bundle:/srv/callsieve/bundle:ro -v ./signer.pub:/srv/callsieve/signer.pub:ro \
#     -v ./number.key:/run/secrets/number.key:ro -v ./api.keys:/run/secrets/api.keys:ro \
#     -v callsieve-state:/state callsieve
#
# The two key files must have mode 0600 and belong to user 10001; otherwise `callsieve serve` refuses them. Arguments after
# the image's name are added to the options (`--registers /registers`). The container writes only to /state.

FROM python:3.13-slim AS build
# The image has no compiler: the build of kernel and forest brings one from a wheel (setup.py).
WORKDIR /source
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY .package/callsieve .package/callsieve
COPY features features
COPY serving serving
COPY training training
RUN python -m venv /opt/callsieve
RUN /opt/callsieve/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.13-slim
COPY --from=build /opt/callsieve /opt/callsieve
# A new volume inherits owner and mode from this folder.
RUN install -d -o 10001 -g 10001 -m 0700 /state
ENV PATH=/opt/callsieve/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /state
EXPOSE 8080
USER 10001:10001
# The empty ProxyHandler ignores proxy variables of the environment: the address is inside the container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8080/health/live', timeout=3)"]
# With the default, 127.0.0.1, a published port would not reach the service. 0.0.0.0 listens on every address of the
# container; `-p` decides who can connect.
ENTRYPOINT ["callsieve", "serve", "--host", "0.0.0.0", "--port", "8080", \
  "--bundle", "/srv/callsieve/bundle", "--trust", "/srv/callsieve/signer.pub", \
  "--key", "/run/secrets/number.key", "--keys", "/run/secrets/api.keys", "--state", "/state"]
