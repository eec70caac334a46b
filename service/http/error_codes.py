"""The codes of errors, which programs go by, and what each means; `/docs` and the documentation list them."""

from __future__ import annotations

from typing import Final

CODES: Final[dict[str, tuple[str, str]]] = {
    "bad_request": ("400", "the request is not HTTP as it should be"),
    "client_gone": ("499", "the client disconnected before there was an answer; only the log shows it"),
    "deadline_exceeded": ("503", "the request's time was up: ask again when there is less to do, or allow more time"),
    "decoder_lost": ("503", "the process that decoded the image was killed: try again after Retry-After"),
    "empty": ("400", "the body, or the image in it, has no bytes"),
    "explanation_failed": ("503", "the process that explains has ended: try again"),
    "explanations_busy": ("503", "explanations wait in a short queue, which is full: try again after Retry-After"),
    "headers_too_large": ("431", "the headers and trailers are longer than the limit"),
    "internal_error": ("500", "the service failed; its log says why"),
    "invalid_base64": ("422", "what should be base64 is not"),
    "invalid_body": ("422", "the JSON body has another shape than it should have"),
    "invalid_encoding": ("400", "the body is not as its Content-Encoding says"),
    "invalid_form": ("400", "the multipart form cannot be read"),
    "invalid_json": ("400", "the body is not JSON"),
    "invalid_parameter": ("422", "a parameter is not of its kind or out of its range"),
    "invalid_request": ("400 and others", "the request of a protocol is not as the protocol has it"),
    "method_not_allowed": ("405", "the path does not take this method"),
    "no_admin_key": ("403", "models are not loaded on request: no admin key is set"),
    "no_file": ("400", "the form has no file"),
    "not_found": ("404", "there is nothing at this path"),
    "overloaded": ("503", "too much waits for the model or for memory: try again after Retry-After"),
    "request_timeout": ("408", "the headers or the body came too slowly"),
    "several_images": ("400", "the form has several files: send them to /predict/batch"),
    "too_complex": ("413", "the JSON body has more parts than any request needs"),
    "too_large": ("413", "the body, or the image, is larger than a limit, which the message names"),
    "too_many_connections": ("503", "all connections are busy: try again in a moment"),
    "too_many_images": ("413", "the request has more images than the limit"),
    "undecodable_image": ("422", "the image is damaged, or has several frames"),
    "unknown_model": ("404", "there is no such model or version; the message lists what there is"),
    "unsupported_content_encoding": ("415", "the Content-Encoding is not taken: use gzip or deflate"),
    "unsupported_content_type": ("415", "the Content-Type is not taken"),
    "unsupported_image": ("415", "this is not an image, or not of a type that is read"),
    "wrong_key": ("401", "a key is needed, or is not right"),
}
