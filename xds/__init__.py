"""Policy in, bytes out: what each Envoy is sent.

The generated Envoy messages own a package of this name too (children ``core``, ``type``, …);
both share it.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
